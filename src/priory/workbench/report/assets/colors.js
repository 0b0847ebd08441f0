// The colors of rows and nodes, and their legend. Classes differ in shape as well as in color.

// [plotly's symbol, its outline in a box from -6 to 6]
const SHAPES = [
  ["circle", "M0,-5A5,5 0 1 1 0,5A5,5 0 1 1 0,-5Z"], ["square", "M-4.5,-4.5H4.5V4.5H-4.5Z"],
  ["triangle-up", "M0,-5.5L5.5,4.5H-5.5Z"], ["diamond", "M0,-6L6,0L0,6L-6,0Z"],
  ["triangle-down", "M0,5.5L5.5,-4.5H-5.5Z"], ["cross", "M-2,-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z"],
  ["x", "M-6,-3L-3,-6L0,-3L3,-6L6,-3L3,0L6,3L3,6L0,3L-3,6L-6,3L-3,0Z"], ["star", "M0,-6L1.8,-1.9L6,-1.9L2.6,0.8L3.8,5.2L0,2.6L-3.8,5.2L-2.6,0.8L-6,-1.9L-1.8,-1.9Z"],
  ["triangle-left", "M-5.5,0L4.5,-5.5V5.5Z"], ["triangle-right", "M5.5,0L-4.5,-5.5V5.5Z"],
  ["hexagon", "M0,-6L5.2,-3V3L0,6L-5.2,3V-3Z"], ["pentagon", "M0,-6L5.7,-1.9L3.5,4.9H-3.5L-5.7,-1.9Z"],
];
const GRAY = "#b3b3b3";
const MISSING = "#d0d4d9";
const MOST_SHAPES = 20000; // rows; with more, shapes are too small to see and slow to draw
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const PURPLES = ["#f2f0f7", "#dadaeb", "#bcbddc", "#9e9ac8", "#807dba", "#6a51a3", "#4a1486"]; // for nodes, if rows use cividis

// Numbers are drawn as fractions of their scale, from 0 to 1; missing ones are below it, in another color.
const BELOW = -0.25;
const LONG_TAIL = 1.5, LEVELS = 257; // as in plots/colors.py

function plotlyScale(colors) {
  const last = colors.length - 1; // 0 of our scale is 0.2 of plotly's
  return [[0, MISSING], [0.19, MISSING], ...colors.map((color, i) => [i ? 0.2 + 0.8 * (i / last) : 0.19, color])];
}

function classScale(colors) {
  if (colors.length === 1) return [[0, colors[0]], [1, colors[0]]];
  return colors.flatMap((color, i) => [[i / colors.length, color], [(i + 1) / colors.length, color]]);
}

function optionsOf(map) {
  const options = [];
  map.labels.forEach((label, i) => options.push({ group: "Labels", name: label.name, get: async () => label, key: "label-" + i }));
  if (map.score) options.push({ group: "Score", name: map.score.name, get: async () => map.score, key: "score" });
  map.columns.forEach((column, i) => options.push({
    group: "Columns", name: column.name, key: "column-" + i,
    get: async () => ({ name: column.name, values: await column.rows() }),
  }));
  options.push({ group: "", name: "nothing", get: async () => null, key: "nothing" });
  return options;
}

function fillSelect(select, options) {
  let parent = select;
  options.forEach((option, i) => {
    if (option.group && parent.label !== option.group) {
      parent = document.createElement("optgroup");
      parent.label = option.group;
      select.append(parent);
    } else if (!option.group) parent = select;
    const element = document.createElement("option");
    element.value = i;
    element.textContent = option.name;
    parent.append(element);
  });
}

// Plotly's marker for one way to color `count` rows, and the content of its legend.
function classLook(label, colors, count) {
  const groupOf = label.kind.raw, table = label.group.raw;
  const group = Float32Array.from(groupOf, (kind) => table[kind]);
  const own = label.groups.filter((each) => each.own).length;
  const palette = label.groups.map((each, i) => (each.own ? colors[i] : i === own && each.name !== "none" ? GRAY : MISSING));
  const shape = (i) => (label.groups[i].own ? SHAPES[i][0] : "circle");
  const symbol = count <= MOST_SHAPES ? Array.from(group, shape) : "circle";
  const marker = { color: group, symbol, colorscale: classScale(palette), cmin: -0.5, cmax: palette.length - 0.5 };
  return { marker, name: label.name, group, palette, groups: label.groups };
}

// The quantile at `part`, 0 to 1, of sorted values.
function quantile(sorted, part) {
  const place = part * (sorted.length - 1), i = Math.floor(place);
  return sorted[i] + (place - i) * ((i + 1 < sorted.length ? sorted[i + 1] : sorted[i]) - sorted[i]);
}

// The values at equal distances on a scale: the ends of the range, or for skewed values, quantiles of distinct values.
function levelsOf(...columns) {
  const sorted = Float32Array.from(columns.flatMap((values) => Array.from(values).filter(Number.isFinite))).sort();
  if (!sorted.length) return [0, 1];
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const different = sorted.filter((value, i) => !i || value !== sorted[i - 1]);
  const [tenth, ninth] = [quantile(sorted, 0.1), quantile(sorted, 0.9)];
  const skewed = Math.max(tenth - low, high - ninth) >= LONG_TAIL * (ninth - tenth);
  if (different.length < 3 || !skewed) return [low, high];
  return different.length <= LEVELS ? different : Float32Array.from({ length: LEVELS }, (_, i) => quantile(different, i / (LEVELS - 1)));
}

function partOf(value, levels) {
  let below = 0, above = levels.length - 1;
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if (levels[middle] <= value) below = middle; else above = middle;
  }
  return (below + (value - levels[below]) / (levels[above] - levels[below] || 1)) / (levels.length - 1);
}

function numberLook(column, levels = levelsOf(asFloats(column.values)), colors = CIVIDIS) {
  const values = asFloats(column.values);
  const missing = values.reduce((count, value) => count + !Number.isFinite(value), 0);
  const color = Float32Array.from(values, (value) => (Number.isFinite(value) ? partOf(value, levels) : BELOW));
  const marker = { color, symbol: "circle", colorscale: plotlyScale(colors), cmin: BELOW, cmax: 1 };
  return { marker, name: column.name, levels, colors, missing };
}

function plainLook() {
  return { marker: { color: "#1a1a1a", symbol: "circle" }, name: "" };
}

function lookOf(chosen, colors, count) {
  if (!chosen) return plainLook();
  return chosen.kinds ? classLook(chosen, colors, count) : numberLook(chosen);
}

function svgElement(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}

function swatch(shape, color) {
  const svg = svgElement("svg", { viewBox: "-7 -7 14 14", width: 14, height: 14, "aria-hidden": "true" });
  svg.append(svgElement("path", { d: shape, fill: color }));
  return svg;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function written(value, digits = 4) {
  if (!Number.isFinite(value)) return "none";
  return String(Number(value.toPrecision(digits))).replaceAll("-", "−");
}

// A color bar with the values at its ends; for quantiles, also the value in the middle.
function scaleBar({ levels, colors }) {
  const bar = element("div", undefined, "scale");
  bar.style.background = "linear-gradient(to right, " + colors.join(", ") + ")";
  const ends = element("div", undefined, "scale-ends"), skewed = levels.length > 2;
  const ticks = skewed ? [0, 0.5, 1].map((part) => quantile(levels, part)) : levels;
  ends.append(...Array.from(ticks, (value) => element("span", written(value, skewed ? 3 : 4))));
  return skewed ? [bar, ends, element("p", "colors by quantiles", "hint")] : [bar, ends];
}

// The legend of classes. A user can hide classes; `changed` gets the hidden ones.
function classLegend(look, shapes, changed) {
  const list = element("div", undefined, "legend-list");
  const hidden = new Set();
  look.groups.forEach((group, i) => {
    const label = element("label");
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(i); else hidden.add(i);
      changed(hidden);
    });
    const shape = SHAPES[shapes && group.own ? i : 0][1];
    label.append(box, swatch(shape, look.palette[i]), element("span", group.name), element("span", String(group.count), "count"));
    list.append(label);
  });
  return list;
}

function writeLegend(rowLook, nodeLook, shapes, changed) {
  const legend = document.getElementById("legend");
  const parts = [], shared = nodeLook && nodeLook.levels === rowLook.levels;
  if (rowLook.groups) parts.push(element("h3", rowLook.name + " (rows)"), classLegend(rowLook, shapes, changed));
  else if (rowLook.name) {
    parts.push(element("h3", (shared ? "Rows and nodes: " : "Rows: ") + rowLook.name), ...scaleBar(rowLook));
    if (rowLook.missing) parts.push(element("p", rowLook.missing + (rowLook.missing === 1 ? " row has no value: it is" : " rows have no value: they are") + " light gray", "hint"));
  }
  if (nodeLook && !shared) parts.push(element("h3", "Nodes: " + nodeLook.name), ...scaleBar(nodeLook));
  legend.replaceChildren(...parts);
  legend.hidden = !parts.length;
}
