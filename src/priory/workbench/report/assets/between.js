// What the model decodes between nodes: decoded nodes, mixed by bilinear interpolation. The page has no decoder.

const MIXED = "Between nodes, the page mixes the decoded means of the four nodes around (bilinear interpolation). It does not run the model.";

function canDecode(map) {
  return Boolean(map.nodes && map.nodes.side && (map.nodes.sheet || map.columns.length));
}

// The ends of the grid along an axis.
function endsOf(map, axis) {
  const values = map.nodes.places[axis];
  return [values[0], values[values.length - 1]];
}

// The nearest place inside the grid.
function insideGrid(map, place) {
  return place.map((value, axis) => {
    const [low, high] = endsOf(map, axis);
    return Math.min(high, Math.max(low, value));
  });
}

// The nodes around a place, and their shares, which are positive and sum to 1. Node i * side + j is in column i, line j.
function cornersAt(map, place) {
  const side = map.nodes.side;
  const [[i, s], [j, t]] = insideGrid(map, place).map((value, axis) => {
    const [low, high] = endsOf(map, axis), steps = ((value - low) / (high - low)) * (side - 1);
    const below = Math.min(side - 2, Math.floor(steps));
    return [below, steps - below];
  });
  const node = i * side + j;
  const corners = [[node, (1 - s) * (1 - t)], [node + 1, (1 - s) * t], [node + side, s * (1 - t)], [node + side + 1, s * t]];
  return corners.filter(([, share]) => share > 0);
}

function mixed(corners, at) {
  return corners.reduce((sum, [node, share]) => sum + share * at(node), 0);
}

// Draws the mixed picture of the nodes around a place.
function mixedTile(map, place, side) {
  const { sheet } = map.nodes, { width, height } = sheet, corners = cornersAt(map, place);
  const canvas = tileCanvas(sheet, side), context = canvas.getContext("2d");
  const { data: gray, width: line } = sheet.pixels();
  const origin = corners.map(([node]) => tileOrigin(sheet, node)), picture = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = corners.reduce((sum, [, share], c) => sum + share * gray[4 * ((origin[c][1] + y) * line + origin[c][0] + x)], 0);
      picture.data.set([value, value, value, 255], 4 * (y * width + x));
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

async function describedPlace(map, place, side) {
  const parts = [element("h3", "Between nodes")], corners = cornersAt(map, place);
  if (map.nodes.sheet) parts.push(mixedTile(map, place, side));
  parts.push(listOf([["place", writtenPlace(place)]]));
  if (!map.nodes.sheet) parts.push(listOf(topColumns(await map.allColumns(), (column) => mixed(corners, column.nodes.at)), "columns"));
  parts.push(element("p", MIXED, "hint"));
  return parts;
}
