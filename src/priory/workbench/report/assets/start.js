// Starts the page: unpacks the data, draws the map, and connects the controls.

const byId = (id) => document.getElementById(id);

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await decodedText(byId("plotly-packed").textContent);
  document.head.append(script);
  if (typeof Plotly === "undefined") throw new Error("plotly.js did not start");
}

function nodeOptions(map) {
  const options = [{ name: "gray", kind: "plain" }];
  if (map.nodes.sheet && map.nodes.side) options.push({ name: "their images", kind: "picture" });
  map.nodes.numbers.forEach((each) => options.push({ name: each.name, kind: "number", column: each }));
  if (map.columns.length) options.push({ name: "the rows’ column", kind: "column" });
  options.push({ name: "hidden", kind: "hidden" });
  return options;
}

// The looks of rows and nodes: they share a scale if they show the same quantity.
async function looksOf(map, rowOption, nodeOption) {
  const rowColumn = await rowOption.get();
  const column = nodeOption.kind === "column" && rowOption.key.startsWith("column-") ? map.columns[Number(rowOption.key.slice(7))] : null;
  if (column && column.nodes) {
    const nodeColumn = { name: column.name, values: await column.nodes() };
    const levels = levelsOf(asFloats(rowColumn.values), asFloats(nodeColumn.values));
    return [numberLook(rowColumn, levels), numberLook(nodeColumn, levels)];
  }
  const look = lookOf(rowColumn, map.data.colors, map.count);
  return [look, nodeOption.kind === "number" ? numberLook(nodeOption.column, undefined, look.levels ? PURPLES : CIVIDIS) : null];
}

// Copies the choices in the controls to the state, and draws it.
function startColors(map, plot, state) {
  const rowOptions = optionsOf(map), nodeChoices = map.nodes ? nodeOptions(map) : [];
  fillSelect(byId("color-by"), rowOptions);
  fillSelect(byId("nodes-by"), nodeChoices);
  byId("nodes-by").parentElement.hidden = byId("node-form").hidden = !map.nodes;
  const redraw = (changes) => draw(map, plot, Object.assign(state, changes));
  async function recolor() {
    const rowOption = rowOptions[byId("color-by").value];
    const option = nodeChoices[byId("nodes-by").value] || { kind: "hidden" };
    const [look, nodeLook] = await looksOf(map, rowOption, option);
    writeLegend(look, nodeLook, map.count <= MOST_SHAPES, (hidden) => redraw({ hidden }));
    await redraw({ look, nodeLook, nodeKind: option.kind, hidden: new Set() });
  }
  byId("color-by").addEventListener("change", recolor);
  byId("nodes-by").addEventListener("change", recolor);
  byId("rows-shown").addEventListener("change", (event) => redraw({ rowsShown: event.target.checked }));
  return recolor();
}

function startDetails(map, plot) {
  const tip = byId("tip");
  showHint(map);
  let hovers = 0; // unpacking of columns may finish after a later hover; only the last hover counts
  let left = 0; // time when the pointer left; after each drawing, plotly repeats the last hover, however old
  plot.on("plotly_hover", async (hover) => {
    if (hover.event.timeStamp < left) return;
    const mine = ++hovers, { row, node } = pointed(map, plot, hover);
    const parts = await (row === undefined ? describedNode(map, node, 84) : describedRow(map, row, 84));
    if (mine !== hovers) return;
    tip.replaceChildren(...parts);
    placeTip(tip, hover.event);
  });
  const leave = () => { hovers++; left = performance.now(); tip.hidden = true; };
  plot.on("plotly_unhover", leave);
  plot.addEventListener("mouseleave", leave); // plotly sends no unhover event after a lasso
  window.addEventListener("pointermove", (event) => { if (event.buttons) leave(); }); // nor one before a drag
  onClick(plot, (event, again) => {
    const { row, node, place } = clickedOn(map, plot, event);
    if (again && plot.layout.dragmode === "drawline") showAll(map, plot); // with Pan, plotly does so
    else if (row !== undefined) pinRow(map, plot, row);
    else if (node !== undefined) pinNode(map, plot, node);
    else if (place) pinPlace(map, plot, place);
  });
}

function showAll(map, plot) {
  const { xaxis, yaxis } = layoutOf(map);
  return Plotly.relayout(plot, { "xaxis.range": xaxis.range, "yaxis.range": yaxis.range });
}

function showHint(map) {
  const things = canDecode(map) ? "a row, a node or a place between nodes" : map.nodes ? "a row or a node" : "a row";
  byId("details").replaceChildren(element("p", "Click " + things + " to see it here.", "hint"));
}

// Frames a place; the arrow of a path stays. `relayout` would compute all traces again.
function mark(plot, [x, y]) {
  const arrow = plot.layout.annotations.filter((each) => each.showarrow);
  return Plotly.react(plot, plot.data, { ...plot.layout, annotations: [...arrow, ...frames(x, y)] });
}

async function pinRow(map, plot, row) {
  await showRow(map, row);
  await mark(plot, map.shown.map((values) => values[row]));
}

async function pinNode(map, plot, node) {
  byId("node-number").value = node;
  await showNode(map, node);
  await mark(plot, map.nodes.places.map((values) => values[node]));
}

async function pinPlace(map, plot, place) {
  byId("node-number").value = "";
  await showPlace(map, place);
  await mark(plot, place);
}

// Finds rows and nodes by keyboard.
function startSearch(map, plot) {
  byId("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = byId("find").value;
    const row = map.ids.indexOf(map.ids.includes(typed) ? typed : typed.trim());
    byId("find").setCustomValidity(row < 0 ? "No row has this id." : "");
    if (row < 0) byId("find").reportValidity(); else pinRow(map, plot, row);
  });
  byId("find").addEventListener("input", () => byId("find").setCustomValidity(""));
  if (!map.nodes) return;
  byId("node-number").max = map.nodes.count - 1;
  const show = () => { if (byId("node-number").value !== "" && byId("node-number").checkValidity()) pinNode(map, plot, Number(byId("node-number").value)); };
  byId("node-number").addEventListener("change", show);
  byId("node-form").addEventListener("submit", (event) => { event.preventDefault(); show(); });
}

// Prints the map at the size of the drawing.
function keepSizeInPrint(plot) {
  const sized = (width, height) => Object.assign(plot.style, { width, height, maxHeight: width && "none" });
  window.addEventListener("beforeprint", () => sized(plot.offsetWidth + "px", plot.offsetHeight + "px"));
  window.addEventListener("afterprint", () => sized("", ""));
}

function say(text) {
  byId("map-state").textContent = text;
  byId("map-state").hidden = !text;
}

async function start() {
  const data = JSON.parse(byId("map-data").textContent);
  const [map] = await Promise.all([decodedMap(data), loadPlotly()]);
  byId("map").hidden = false;
  const plot = byId("plot");
  const state = firstState(map, plot);
  leaveTheWheel(plot);
  await startColors(map, plot, state);
  startDetails(map, plot);
  startSelection(map, plot, state);
  startSearch(map, plot);
  startPath(map, plot);
  keepSizeInPrint(plot);
  byId("axes-hint").textContent = "Across: " + data.axes[0] + "; up: " + data.axes[1] + ". " + map.count + " rows" + (map.nodes ? "; rows at the same place are spread around it." : ".");
  byId("map-notes").replaceChildren(...data.notes.map((note) => element("li", note)));
  say(state.type === "scattergl" ? "" : "This browser has no WebGL, so drawing the map is slow.");
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("map").hidden = true;
  say("The map could not be drawn: " + error.message + ". The rest of the page works.");
  console.error(error);
});
