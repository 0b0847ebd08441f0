// The path on the map: what the model decodes along it, and a slider that moves along it.

const TILES = 7; // pictures of the strip
const STEPS = 60; // of the path, to find how much a column changes
const MOST_CHANGING = 100; // columns

function placeOn([start, end], part) {
  return start.map((value, axis) => value + part * (end[axis] - value));
}

function stripOf(map, path) {
  const strip = element("div", undefined, "strip");
  for (let i = 0; i < TILES; i++) {
    const tile = mixedTile(map, placeOn(path, i / (TILES - 1)), 1);
    tile.removeAttribute("style"); // the page's width decides
    strip.append(tile);
  }
  return strip;
}

// The columns and their values along the path; first those that change most, in standard deviations of the rows.
async function changesAlong(map, path) {
  const corners = Array.from({ length: STEPS + 1 }, (_, i) => cornersAt(map, placeOn(path, i / STEPS)));
  const changes = (await map.allColumns()).map((column) => {
    const values = corners.map((each) => mixed(each, column.nodes.at));
    return { column, values, change: (Math.max(...values) - Math.min(...values)) / column.scale };
  });
  return changes.filter(({ change }) => Number.isFinite(change)).sort((a, b) => b.change - a.change);
}

// The course of a column's values from the start to the end of the path.
function courseOf(values) {
  const svg = svgElement("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const low = Math.min(...values), range = Math.max(...values) - low || 1;
  const points = values.map((value, i) => (100 * i) / STEPS + "," + (100 - (100 * (value - low)) / range)).join(" ");
  svg.append(svgElement("polyline", { points, "vector-effect": "non-scaling-stroke" }));
  return svg;
}

// A list of columns: the value at the slider, and below it those of the start and the end. `show` writes the former.
function changesList(changes) {
  const list = element("dl", undefined, "changes"), here = [];
  list.tabIndex = 0; // it scrolls
  for (const { column, values } of changes) {
    const value = element("dd", undefined, "here"), course = element("dd");
    course.append(courseOf(values));
    list.append(element("dt", column.name), value, element("dd", written(values[0])), course, element("dd", written(values[STEPS])));
    here.push((corners) => { value.textContent = written(mixed(corners, column.nodes.at)); });
  }
  return { list, show: (corners) => here.forEach((each) => each(corners)) };
}

// Fills the card with a path, and returns a function that shows one place of it.
async function drawnPath(map, path) {
  const place = element("div");
  const tell = (at) => place.replaceChildren(listOf([["place", writtenPlace(at)]]));
  if (map.nodes.sheet) {
    const tile = element("div");
    byId("path-strip").replaceChildren(stripOf(map, path));
    byId("path-here").replaceChildren(tile, place);
    return (at) => { tell(at); tile.replaceChildren(mixedTile(map, at, 112)); };
  }
  const all = await changesAlong(map, path), most = all.slice(0, MOST_CHANGING), { list, show } = changesList(most);
  byId("path-strip").replaceChildren();
  const part = all.length > most.length ? "The " + most.length + " of " + all.length + " columns that change most." : "The columns that change most come first.";
  byId("path-here").replaceChildren(place, list, element("p", part, "hint"));
  return (at) => { tell(at); show(cornersAt(map, at)); };
}

// Shows a path, with the slider at its start.
async function followPath(map, plot, ends) {
  const path = ends.map((place) => insideGrid(map, place)), slider = byId("path-slider");
  const show = await drawnPath(map, path);
  const move = () => {
    const at = placeOn(path, slider.value / slider.max);
    show(at);
    byId("path-here").style.setProperty("--at", slider.value / slider.max);
    slider.setAttribute("aria-valuetext", "place " + writtenPlace(at));
    return mark(plot, at);
  };
  slider.value = 0;
  slider.oninput = move;
  showHint(map);
  byId("path-how").hidden = true;
  byId("path-drawn").hidden = false;
  await Plotly.relayout(plot, pathMarks(...path));
  await move();
}

function startPath(map, plot) {
  byId("path").hidden = byId("drag-hint").hidden = !canDecode(map);
  if (!canDecode(map)) return;
  byId("path-hint").textContent = MIXED;
  plot.on("plotly_relayout", ({ shapes, annotations }) => {
    if (!shapes || annotations) return; // followPath changes both; a drag adds a line to the shapes only
    const { x0, y0, x1, y1 } = shapes[shapes.length - 1];
    followPath(map, plot, [[x0, y0], [x1, y1]]);
  });
  const ends = [byId("path-from"), byId("path-to")];
  ends.forEach((end) => { end.max = map.nodes.count - 1; });
  byId("path-form").addEventListener("change", () => {
    if (!ends.every((end) => end.value !== "" && end.reportValidity())) return;
    followPath(map, plot, ends.map((end) => map.nodes.places.map((values) => values[Number(end.value)])));
  });
}
