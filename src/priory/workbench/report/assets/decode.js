"use strict";
// Decodes parts of the page into arrays; the inverse of encoding.py. Nothing here makes an object per row.

const ARRAYS = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

function bytesOf(letters) {
  const text = atob(letters);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function unpacked(letters) {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old to unpack its data");
  const stream = new Blob([bytesOf(letters)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function decodedText(letters) {
  return new TextDecoder().decode(await unpacked(letters));
}

// An array with `at(i)`, which is NaN if the value is missing; the values stay in their compact type.
async function decoded(part) {
  const raw = new ARRAYS[part.type](await unpacked(part.data));
  if (part.missing === undefined) return { raw, length: raw.length, at: (i) => raw[i] };
  const { low, step, missing } = part;
  return { raw, length: raw.length, at: (i) => (raw[i] === missing ? NaN : low + raw[i] * step) };
}

async function decodedTexts(part) {
  return JSON.parse(await decodedText(part.data));
}

function asFloats(values) {
  return values.raw instanceof Float32Array ? values.raw : Float32Array.from({ length: values.length }, (_, i) => values.at(i));
}

async function loadedImage(sheet) {
  const image = new Image();
  image.src = "data:image/png;base64," + sheet.png;
  await image.decode();
  return image;
}

// Four bytes per pixel; in gray images, the first is the gray value.
function pixelsOf(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, image.width, image.height);
}

// Decodes all of the map except columns, which are unpacked on first use.
async function decodedMap(data) {
  const map = { data, count: data.count, ids: await decodedTexts(data.ids) };
  map.places = await Promise.all(data.places.map(decoded));
  map.shown = (await Promise.all(data.shown.map(decoded))).map(asFloats);
  map.labels = await Promise.all(data.labels.map(decodedLabel));
  map.score = data.score ? { name: data.score.name, values: await decoded(data.score.numbers) } : null;
  map.sheet = data.sheet ? await decodedSheet(data.sheet) : null;
  map.nodes = data.nodes ? await decodedNodes(data) : null;
  map.columns = (data.columns || []).map((part) => ({ ...part, rows: once(() => decoded(part.rows)), nodes: part.nodes && once(() => decoded(part.nodes)) }));
  map.allColumns = once(async () => Promise.all(map.columns.map(async (column) => ({
    name: column.name, mean: column.mean, scale: column.scale,
    rows: await column.rows(), nodes: column.nodes ? await column.nodes() : null,
  }))));
  return map;
}

function once(make) {
  let made = null;
  return () => (made = made || make());
}

async function decodedLabel(part) {
  if (part.numbers) return { name: part.name, values: await decoded(part.numbers) };
  const [kinds, kind, group] = await Promise.all([decodedTexts(part.kinds), decoded(part.kind), decoded(part.group)]);
  return { name: part.name, kinds, kind, group, groups: part.groups };
}

async function decodedSheet(part) {
  const image = await loadedImage(part);
  const place = new Map();
  (await decoded(part.rows)).raw.forEach((row, i) => place.set(row, i));
  return { ...part, image, place };
}

async function decodedNodes(data) {
  const part = data.nodes;
  const places = (await Promise.all(part.places.map(decoded))).map((values) => values.raw);
  const numbers = await Promise.all(part.numbers.map(async (each) => ({ name: each.name, values: await decoded(each.numbers) })));
  const image = data.node_sheet ? await loadedImage(data.node_sheet) : null;
  const sheet = image && { ...data.node_sheet, image, pixels: once(() => pixelsOf(image)) };
  return { count: part.count, side: part.side, places, numbers, sheet };
}
