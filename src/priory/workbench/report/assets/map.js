// The plot: nodes below, rows above, one trace each. Plotly gets only numbers, no text of the data.

const NODES = 0, ROWS = 1, SHEET = 2; // indices of traces; the sheet of the nodes' colors is below all
const SAME_SPOT = 5; // pixels
const MOST_TREMOR = 8; // pixels between the events of a click; farther apart, they are a drag
const REACH = 10; // pixels between the pointer and a row or a node
const MOST_WITHOUT_WEBGL = 20000; // rows
const SIZES = [[300, 9], [2000, 7], [5000, 5.5], [20000, 4.5], [Infinity, 3]];

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}

// `apart`: distance of neighboring nodes as a fraction of the axis; half of it leaves room for their squares.
function axis(values, nodes, apart) {
  let low = Infinity, high = -Infinity;
  for (const value of nodes || []) { low = Math.min(low, value); high = Math.max(high, value); }
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  const margin = Math.max(0.04, 0.55 * apart) * (high - low || 1);
  return { range: [low - margin, high + margin], zeroline: false, showgrid: false, ticks: "outside", tickcolor: "#aab2bd", linecolor: "#aab2bd", showline: true, mirror: true };
}

// The distance of neighboring nodes; infinite if they are not on a regular grid.
function nodesApart(map) {
  const { places: [x], side } = map.nodes;
  return side ? (x[x.length - 1] - x[0]) / (side - 1) : Infinity;
}

function layoutOf(map) {
  const nodes = map.nodes ? map.nodes.places : [null, null];
  const apart = map.nodes && map.nodes.side ? 1 / (map.nodes.side - 1) : 0;
  return {
    xaxis: axis(map.shown[0], nodes[0], apart),
    yaxis: { ...axis(map.shown[1], nodes[1], apart), scaleanchor: "x", constrain: "domain" },
    margin: { l: 38, r: 10, t: 34, b: 30 }, uirevision: "kept",
    showlegend: false, hovermode: "closest", hoverdistance: REACH, dragmode: canDecode(map) ? "drawline" : "pan",
    newshape: { line: { color: "#000", width: 2 } },
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { family: "system-ui, sans-serif", size: 12, color: "#5c6470" },
    modebar: { orientation: "h", bgcolor: "rgba(255,255,255,0.9)", color: "#6a727d", activecolor: "#0072b2" },
    images: [], shapes: [], annotations: [],
  };
}

function configOf(map) {
  const drags = [...(canDecode(map) ? ["drawline"] : []), "pan2d", "zoom2d", "select2d", "lasso2d"];
  return {
    responsive: true, displaylogo: false, displayModeBar: true, scrollZoom: true, doubleClick: "reset",
    modeBarButtons: [drags, ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]],
  };
}

function rowsTrace(map, state) {
  const [x, y] = map.shown.map((values) => withoutHidden(values, state.look.group, state.hidden));
  const many = map.count > 5000;
  return {
    type: state.type, mode: "markers", hoverinfo: "none", x, y, visible: state.rowsShown,
    marker: { ...state.look.marker, size: state.size, line: { width: many ? 0 : 0.5, color: "#fff" }, opacity: map.count > 20000 ? 0.8 : 1 },
    selectedpoints: state.selected.length ? state.selected : null,
    selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.12 } },
  };
}

// Rows of hidden classes get no place.
function withoutHidden(values, group, hidden) {
  return hidden.size ? Float32Array.from(values, (value, i) => (hidden.has(group[i]) ? NaN : value)) : values;
}

function nodesTrace(map, state) {
  const [x, y] = map.nodes ? map.nodes.places : [[], []];
  const look = map.nodes && !map.nodes.side ? state.nodeLook : null; // not a regular grid: draw larger squares
  const marker = look ? { ...look.marker, size: 14, symbol: "square" } : { symbol: "square", size: 4, color: MISSING };
  const visible = look !== null || state.nodeKind === "plain" || (state.nodeKind === "column" && !state.nodeLook);
  return { type: state.type, mode: "markers", hoverinfo: "none", x, y, visible, marker };
}

// The nodes' colors as a heat map: node i is in column i / side, line i % side from below.
function sheetTrace(map, state) {
  const side = map.nodes && map.nodes.side;
  if (!side || !state.nodeLook) return { type: "heatmap", x: [0], y: [0], z: [[0]], visible: false, showscale: false };
  const { color, colorscale, cmin, cmax } = state.nodeLook.marker;
  const line = (j) => Array.from({ length: side }, (_, i) => color[i * side + j]);
  return {
    type: "heatmap", hoverinfo: "none", showscale: false, colorscale, zmin: cmin, zmax: cmax, xgap: 1, ygap: 1,
    x: Array.from({ length: side }, (_, i) => map.nodes.places[0][i * side]),
    y: Array.from({ length: side }, (_, j) => map.nodes.places[1][j]),
    z: Array.from({ length: side }, (_, j) => line(j)),
  };
}

// The nodes' images as one picture below the rows; each node is in the middle of its tile.
function nodesPicture(map) {
  const { places, side, sheet } = map.nodes;
  const last = places[0].length - 1;
  const [width, height] = places.map((values) => (values[last] - values[0]) / (side - 1));
  return {
    source: sheet.image.src, xref: "x", yref: "y", x: places[0][0] - width / 2, y: places[1][last] + height / 2,
    sizex: side * width, sizey: side * height, sizing: "stretch", layer: "below", opacity: 0.6,
  };
}

// Frames around the clicked or found point: black in white, visible on every color. They are not shapes with sizes in
// pixels: with those, plotly (4.1) reads the corners of a selection as pixels too.
function frames(x, y) {
  const frame = { x, y, xref: "x", yref: "y", text: " ", showarrow: false, borderpad: 0 };
  return [
    { ...frame, width: 21, height: 21, borderwidth: 6, bordercolor: "#fff" },
    { ...frame, width: 20, height: 20, borderwidth: 2, bordercolor: "#000" },
  ];
}

// A path: a line, black in white like the frames, and the head of an arrow at its end. Plotly draws an arrow's line only if
// one of its ends is in view.
function pathMarks([x0, y0], [x1, y1]) {
  const line = (color, width) => ({ type: "line", x0, y0, x1, y1, line: { color, width } });
  const arrow = { x: x1, y: y1, ax: x0, ay: y0, xref: "x", yref: "y", axref: "x", ayref: "y", text: "", showarrow: true, arrowwidth: 2, arrowhead: 2, arrowcolor: "#000" };
  return { shapes: [line("#fff", 5), line("#000", 2)], annotations: [arrow] };
}

// Draws the whole state.
async function draw(map, plot, state) {
  const layout = plot.layout || layoutOf(map);
  layout.images = state.nodeKind === "picture" ? [nodesPicture(map)] : [];
  await Plotly.react(plot, [nodesTrace(map, state), rowsTrace(map, state), sheetTrace(map, state)], layout, configOf(map));
  plot.dataset.drawings = Number(plot.dataset.drawings || 0) + 1; // for tests that wait for the drawing
}

// The wheel scrolls the page; with Ctrl it zooms. Browsers report a pinch on a touchpad as wheel with Ctrl.
function leaveTheWheel(plot) {
  plot.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); }, { capture: true, passive: true });
}

function firstState(map, plot) {
  const size = SIZES.find(([most]) => map.count <= most)[1] * Math.min(1, Math.max(0.6, plot.clientWidth / 650));
  const type = hasWebGL() ? "scattergl" : "scatter";
  if (type === "scatter" && map.count > MOST_WITHOUT_WEBGL) throw new Error("this browser has no WebGL, which " + map.count + " rows need");
  return { type, size, look: plainLook(), nodeLook: null, nodeKind: "hidden", hidden: new Set(), rowsShown: true, selected: [] };
}

// The place on the map under the pointer.
function placeUnder(plot, { clientX, clientY }) {
  const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
  return [xaxis.p2d(clientX - box.x - xaxis._offset), yaxis.p2d(clientY - box.y - yaxis._offset)];
}

// Both axes have the same scale.
function unitsPerPixel(plot) {
  const { xaxis } = plot._fullLayout;
  return xaxis.p2d(1) - xaxis.p2d(0);
}

function nearestRow(plot, place, reach) {
  const { x, y, visible } = plot.data[ROWS];
  return visible === false ? [-1, Infinity] : nearest([x, y], place, reach);
}

// The row under the pointer if plotly reports the node below it: both may be at the same place.
function rowNear(plot, event) {
  return nearestRow(plot, placeUnder(plot, event), SAME_SPOT * unitsPerPixel(plot))[0];
}

// The row, or otherwise the node, of a plotly event.
function pointed(map, plot, { points: [point], event }) {
  if (point.curveNumber === ROWS) return { row: point.pointNumber };
  const row = rowNear(plot, event);
  if (row >= 0) return { row };
  if (point.curveNumber === NODES) return { node: point.pointNumber };
  const [line, column] = point.pointNumber;
  return { node: column * map.nodes.side + line };
}

// What a click is for: a row, a node, or otherwise a place. A node reaches at most 0.3 of the way to the next one.
function clickedOn(map, plot, event) {
  const place = placeUnder(plot, event), unit = unitsPerPixel(plot);
  const [row, toRow] = nearestRow(plot, place, REACH * unit);
  const [node, toNode] = map.nodes ? nearest(map.nodes.places, place, Math.min(REACH * unit, 0.3 * nodesApart(map))) : [-1, Infinity];
  if (row >= 0 && (node < 0 || toRow <= Math.max(toNode, SAME_SPOT * unit))) return { row };
  if (node >= 0) return { node };
  return canDecode(map) ? { place: insideGrid(map, place) } : {};
}

function isNear(event, other) {
  return other !== null && Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY) < MOST_TREMOR;
}

// Calls `clicked` with the pointer's event of each click inside the axes, and whether it is the second one of a double
// click. Plotly reports clicks on rows and nodes only.
function onClick(plot, clicked) {
  let down = null, last = null;
  plot.addEventListener("pointerdown", (event) => { down = event.button === 0 && event.target.closest(".nsewdrag") ? event : null; }, true);
  window.addEventListener("pointerup", (event) => {
    if (isNear(event, down)) {
      const again = isNear(event, last) && event.timeStamp - last.timeStamp < plot._context.doubleClickDelay;
      last = event;
      clicked(event, again);
    }
    down = null;
  });
}
