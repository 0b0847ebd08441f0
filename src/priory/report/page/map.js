// The drawing: nodes below, rows above, one trace each. Plotly gets numbers only, no text of the data.

const NODES = 0, ROWS = 1, FOUND = 2; // traces
const SAME_SPOT = 5; // pixels
const SIZES = [[300, 9], [2000, 7], [5000, 5.5], [20000, 4.5], [Infinity, 3]];

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}

// `apart`: between neighbouring nodes, as a part of the axis; half of that is room for their squares.
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
    margin: { l: 38, r: 10, t: 34, b: 30 },
    showlegend: false, hovermode: "closest", hoverdistance: 20, dragmode: "pan",
    paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { family: "system-ui, sans-serif", size: 12, color: "#5c6470" },
    modebar: { orientation: "h", bgcolor: "rgba(255,255,255,0.9)", color: "#6a727d", activecolor: "#0072b2" },
    images: [],
  };
}

function tracesOf(map, type, width) {
  const size = SIZES.find(([most]) => map.count <= most)[1] * Math.min(1, Math.max(0.6, width / 650));
  const base = { type, mode: "markers", hoverinfo: "none" };
  const none = new Float32Array(0);
  const nodes = map.nodes ? map.nodes.places : [none, none];
  return [
    { ...base, x: nodes[0], y: nodes[1], marker: { symbol: "square", size: 6, color: MISSING } },
    {
      ...base, x: map.shown[0], y: map.shown[1],
      marker: { size, color: "#1a1a1a", line: { width: map.count <= 5000 ? 0.5 : 0, color: "#fff" }, opacity: map.count <= 20000 ? 1 : 0.8 },
      selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 0.12 } },
    },
    { ...base, hoverinfo: "skip", x: none, y: none, marker: { symbol: "circle-open", size: size + 12, color: "#000", line: { width: 2.5 } } },
  ];
}

const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: true, scrollZoom: true, doubleClick: "reset",
  modeBarButtons: [["pan2d", "zoom2d", "select2d", "lasso2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"], ["toImage"]],
};

// Distance between neighbouring nodes on the screen, in pixels.
function nodeSpacing(map, plot) {
  const across = Math.max(2, map.nodes.side || Math.ceil(Math.sqrt(map.nodes.count)));
  const x = map.nodes.places[0];
  let low = Infinity, high = -Infinity;
  for (const value of x) { low = Math.min(low, value); high = Math.max(high, value); }
  const shown = plot._fullLayout.xaxis;
  return ((high - low) / (across - 1)) * shown._length / (shown.range[1] - shown.range[0]);
}

function nodeSize(map, plot, coloured) {
  return coloured ? Math.min(120, Math.max(4, 0.86 * nodeSpacing(map, plot))) : 4;
}

// The nodes' images as one picture below the rows; node i is in the middle of its tile.
function nodesPicture(map) {
  const { places, side, sheet } = map.nodes;
  const last = places[0].length - 1;
  const [width, height] = places.map((values) => (values[last] - values[0]) / (side - 1));
  return {
    source: sheet.image.src, xref: "x", yref: "y", x: places[0][0] - width / 2, y: places[1][last] + height / 2,
    sizex: side * width, sizey: side * height, sizing: "stretch", layer: "below", opacity: 0.6,
  };
}

// Plain wheel turns scroll the page; with Ctrl, which a pinch on a touchpad is too, they zoom.
function leaveTheWheel(plot) {
  plot.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); }, { capture: true, passive: true });
}

async function drawMap(map, plot) {
  const type = hasWebGL() ? "scattergl" : "scatter";
  leaveTheWheel(plot);
  await Plotly.newPlot(plot, tracesOf(map, type, plot.clientWidth), layoutOf(map), CONFIG);
  return type;
}

// Rows of hidden classes have no place.
function withoutHidden(values, group, hidden) {
  return hidden.size ? Float32Array.from(values, (value, i) => (hidden.has(group[i]) ? NaN : value)) : values;
}

function showRows(map, plot, look, hidden) {
  const [x, y] = map.shown.map((values) => withoutHidden(values, look.group, hidden));
  return Plotly.restyle(plot, { x: [x], y: [y] }, [ROWS]);
}

function colourRows(plot, look) {
  const { color, symbol, colorscale, cmin, cmax } = look.marker;
  return Plotly.restyle(plot, {
    "marker.color": [color], "marker.symbol": [symbol], "marker.colorscale": [colorscale || null],
    "marker.cmin": cmin ?? null, "marker.cmax": cmax ?? null,
  }, [ROWS]);
}

// A row under the pointer where plotly found the node below it: both may stand at the same place.
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

// The row, or else the node, that an event of plotly is about.
function pointed(plot, { points: [point], event }) {
  if (point.curveNumber === ROWS) return { row: point.pointNumber };
  const row = rowNear(plot, event);
  return row < 0 ? { node: point.pointNumber } : { row };
}
