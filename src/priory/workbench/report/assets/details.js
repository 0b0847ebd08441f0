// Details of a row or a node. Texts are inserted as text, never as markup.

const MOST_COLUMNS = 6; // number of listed columns

function drawTile(sheet, place, side) {
  const canvas = element("canvas");
  const { width, height, gap } = sheet;
  canvas.width = width;
  canvas.height = height;
  const shown = Math.max(1, Math.round(side / Math.max(width, height)));
  canvas.style.width = width * shown + "px";
  canvas.style.height = height * shown + "px";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "image");
  const [column, line] = place;
  canvas.getContext("2d").drawImage(sheet.image, column * (width + gap), line * (height + gap), width, height, 0, 0, width, height);
  return canvas;
}

function rowTile(map, row, side) {
  if (!map.sheet || !map.sheet.place.has(row)) return null;
  const i = map.sheet.place.get(row);
  return drawTile(map.sheet, [i % map.sheet.across, Math.floor(i / map.sheet.across)], side);
}

function nodeTile(map, node, side) {
  const sheet = map.nodes.sheet;
  if (!sheet) return null;
  const across = sheet.across;
  const place = sheet.as_map ? [Math.floor(node / across), across - 1 - (node % across)] : [node % across, Math.floor(node / across)];
  return drawTile(sheet, place, side);
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

function rowFacts(map, row) {
  const pairs = [["id", map.ids[row]]];
  for (const label of map.labels) {
    pairs.push([label.name, label.kinds ? label.kinds[label.kind.at(row)] || "none" : written(label.values.at(row))]);
  }
  if (map.score) pairs.push([map.score.name, written(map.score.values.at(row))]);
  pairs.push(["place", map.places.map((values) => written(Number(values.at(row).toFixed(3)))).join(", ")]);
  return listOf(pairs);
}

function nodeFacts(map, node) {
  const pairs = map.nodes.numbers.map((each) => [each.name, written(each.values.at(node))]);
  pairs.push(["place", map.nodes.places.map((values) => written(Number(values[node].toFixed(3)))).join(", ")]);
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

function nearestNode(map, row) {
  const [x, y] = map.places.map((values) => values.at(row));
  let best = 0, least = Infinity;
  for (let k = 0; k < map.nodes.count; k++) {
    const distance = (map.nodes.places[0][k] - x) ** 2 + (map.nodes.places[1][k] - y) ** 2;
    if (distance < least) { least = distance; best = k; }
  }
  return best;
}

async function showRow(map, row) {
  const parts = [element("h3", "Row"), ...(await describedRow(map, row, 112))];
  if (map.nodes) {
    const node = await describedNode(map, nearestNode(map, row), 112);
    node[0].textContent = "Nearest node: " + nearestNode(map, row);
    parts.push(...node);
  }
  document.getElementById("details").replaceChildren(...parts);
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
