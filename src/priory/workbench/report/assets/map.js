// The plot: nodes below, rows above, one trace each. Plotly gets only numbers, no text of the data.

const NODES = 0, ROWS = 1, SHEET = 2; // indices of traces; the sheet of the nodes' colors is below all
const SAME_SPOT = 5; // pixels
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

function layoutOf(map) {
  const nodes = map.nodes ? map.nodes.places : [null, null];
  const apart = map.nodes && map.nodes.side ? 1 / (map.nodes.side - 1) : 0;
  return {
    xaxis: axis(map.shown[0], nodes[0], apart),
    yaxis: { ...axis(map.shown[1], nodes[1], apart), scaleanchor: "x", constrain: "domain" },
    margin: { l: 38, r: 10, t: 34, b: 30 }, uirevision: "kept",
    showlegend: false, hovermode: "closest", hoverdistance: 10, dragmode: "pan",
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { family: "system-ui, sans-serif", size: 12, color: "#5c6470" },
    modebar: { orientation: "h", bgcolor: "rgba(255,255,255,0.9)", color: "#6a727d", activecolor: "#0072b2" },
    images: [], annotations: [],
  };
}

const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: true, scrollZoom: true, doubleClick: "reset",
  modeBarButtons: [["pan2d", "zoom2d", "select2d", "lasso2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]],
};

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

// Draws the whole state.
async function draw(map, plot, state) {
  const layout = plot.layout || layoutOf(map);
  layout.images = state.nodeKind === "picture" ? [nodesPicture(map)] : [];
  await Plotly.react(plot, [nodesTrace(map, state), rowsTrace(map, state), sheetTrace(map, state)], layout, CONFIG);
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

// The row under the pointer if plotly reports the node below it: both may be at the same place.
function rowNear(plot, event) {
  const { x, y, visible } = plot.data[ROWS];
  if (visible === false) return -1;
  const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
  const [left, top] = [event.clientX - box.x - xaxis._offset, event.clientY - box.y - yaxis._offset];
  const [u, v] = [xaxis.p2d(left), yaxis.p2d(top)];
  const reach = Math.abs(xaxis.p2d(left + SAME_SPOT) - u);
  let best = -1, least = reach ** 2;
  for (let i = 0; i < x.length; i++) {
    const distance = (x[i] - u) ** 2 + (y[i] - v) ** 2;
    if (distance < least) { least = distance; best = i; }
  }
  return best;
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
