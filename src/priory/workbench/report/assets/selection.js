// Selected rows, and the export of their ids.

// Quotes a cell by RFC 4180. Text that a spreadsheet would run as a formula, except numbers, gets an apostrophe first.
function csvCell(text) {
  const formula = /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text);
  const safe = formula ? "'" + text : text;
  return /[",\r\n]/.test(safe) || safe !== safe.trim() ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function csvOf(map, rows) {
  return ["id", ...rows.map((row) => csvCell(map.ids[row]))].join("\r\n") + "\r\n";
}

function download(name, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob(["\uFEFF" + text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function startSelection(map, plot, state) {
  const count = document.getElementById("selected-count");
  const button = document.getElementById("export");
  const show = (chosen) => {
    const rows = (state.selected = chosen);
    count.textContent = rows.length ? rows.length + (rows.length === 1 ? " row" : " rows") + " selected." : "No rows selected.";
    button.disabled = !rows.length;
  };
  plot.on("plotly_selected", (event) => {
    const points = event ? event.points : [];
    show(points.filter((point) => point.curveNumber === ROWS).map((point) => point.pointNumber).sort((a, b) => a - b));
  });
  plot.on("plotly_deselect", () => show([]));
  button.addEventListener("click", () => download("selected-ids.csv", csvOf(map, state.selected)));
}
