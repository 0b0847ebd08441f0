// Details of a row or a node. Texts are inserted as text, never as markup.

const MOST_COLUMNS = 6; // number of listed columns

function tileCanvas({ width, height }, side) {
  const canvas = element("canvas");
  canvas.width = width;
  canvas.height = height;
  const shown = Math.max(1, Math.round(side / Math.max(width, height)));
  canvas.style.width = width * shown + "px";
  canvas.style.height = height * shown + "px";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "image");
  return canvas;
}

function drawTile(sheet, [left, top], side) {
  const canvas = tileCanvas(sheet, side), { width, height } = sheet;
  canvas.getContext("2d").drawImage(sheet.image, left, top, width, height, 0, 0, width, height);
  return canvas;
}

// The left and upper edge of a tile in its sheet, in pixels.
function tileOrigin({ width, height, gap, across, as_map: asMap }, i) {
  const [rest, times] = [i % across, Math.floor(i / across)];
  const [column, line] = asMap ? [times, across - 1 - rest] : [rest, times];
  return [column * (width + gap), line * (height + gap)];
}

function rowTile(map, row, side) {
  if (!map.sheet || !map.sheet.place.has(row)) return null;
  const i = map.sheet.place.get(row);
  return drawTile(map.sheet, tileOrigin(map.sheet, i), side);
}

function nodeTile(map, node, side) {
  const sheet = map.nodes.sheet;
  return sheet && drawTile(sheet, tileOrigin(sheet, node), side);
}

function listOf(rows, kind = "") {
  const list = element("dl", undefined, "facts-small " + kind);
  for (const [name, ...texts] of rows) list.append(element("dt", name), ...texts.map((text) => element("dd", text)));
  return list;
}

// The columns with values farthest from their mean, in standard deviations.
function topColumns(columns, at) {
  const far = columns.map((column, i) => [i, Math.abs((at(column) - column.mean) / column.scale)]);
  const known = far.filter(([, distance]) => Number.isFinite(distance)).sort((a, b) => b[1] - a[1]);
  return known.slice(0, MOST_COLUMNS).map(([i]) => {
    const column = columns[i], value = at(column), score = (value - column.mean) / column.scale;
    return [column.name, written(value), (score < 0 ? "−" : "+") + Math.abs(score).toFixed(1) + " sd"];
  });
}

function writtenPlace(place) {
  return place.map((value) => written(Number(value.toFixed(3)))).join(", ");
}

function rowFacts(map, row) {
  const pairs = [["id", map.ids[row]]];
  for (const label of map.labels) {
    pairs.push([label.name, label.kinds ? label.kinds[label.kind.at(row)] || "none" : written(label.values.at(row))]);
  }
  if (map.score) pairs.push([map.score.name, written(map.score.values.at(row))]);
  pairs.push(["place", writtenPlace(map.places.map((values) => values.at(row)))]);
  return listOf(pairs);
}

function nodeFacts(map, node) {
  const pairs = map.nodes.numbers.map((each) => [each.name, written(each.values.at(node))]);
  pairs.push(["place", writtenPlace(map.nodes.places.map((values) => values[node]))]);
  return listOf(pairs);
}

async function describedRow(map, row, side) {
  const parts = [];
  const tile = rowTile(map, row, side);
  if (tile) parts.push(tile);
  else if (map.sheet) parts.push(element("p", "the page has no thumbnail of this row", "hint"));
  parts.push(rowFacts(map, row));
  if (!map.sheet && map.columns.length) parts.push(listOf(topColumns(await map.allColumns(), (column) => column.rows.at(row)), "columns"));
  return parts;
}

async function describedNode(map, node, side) {
  const parts = [element("h3", "Node " + node)];
  const tile = nodeTile(map, node, side);
  if (tile) parts.push(tile);
  parts.push(nodeFacts(map, node));
  if (!tile && map.columns.length && map.columns[0].nodes) {
    parts.push(listOf(topColumns(await map.allColumns(), (column) => column.nodes.at(node)), "columns"));
  }
  return parts;
}

// The nearest of the points within reach, or -1, and its distance.
function nearest([x, y], [u, v], reach = Infinity) {
  let best = -1, least = reach ** 2;
  for (let i = 0; i < x.length; i++) {
    const distance = (x[i] - u) ** 2 + (y[i] - v) ** 2;
    if (distance < least) { least = distance; best = i; }
  }
  return [best, Math.sqrt(least)];
}

async function describedNearest(map, place) {
  const [node] = nearest(map.nodes.places, place), parts = await describedNode(map, node, 112);
  parts[0].textContent = "Nearest node: " + node;
  return parts;
}

async function showRow(map, row) {
  const parts = [element("h3", "Row"), ...(await describedRow(map, row, 112))];
  if (map.nodes) parts.push(...(await describedNearest(map, map.places.map((values) => values.at(row)))));
  document.getElementById("details").replaceChildren(...parts);
}

async function showPlace(map, place) {
  document.getElementById("details").replaceChildren(...(await describedPlace(map, place, 112)), ...(await describedNearest(map, place)));
}

async function showNode(map, node) {
  document.getElementById("details").replaceChildren(...(await describedNode(map, node, 168)));
}

// Places the tip next to the pointer, inside the window: its part below the edge could not be scrolled to.
function placeTip(tip, event) {
  tip.hidden = false;
  const { clientWidth: room, clientHeight: height } = document.documentElement;
  const left = event.pageX + 16 + tip.offsetWidth > room ? event.pageX - 16 - tip.offsetWidth : event.pageX + 16;
  tip.style.left = Math.max(4, left) + "px";
  const top = event.clientY + 14 + tip.offsetHeight > height ? event.clientY - 14 - tip.offsetHeight : event.clientY + 14;
  tip.style.top = event.pageY - event.clientY + Math.max(4, top) + "px";
}
