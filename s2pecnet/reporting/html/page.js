// Comforts of the report; it can be read without them.
"use strict";

// Runs are shown and hidden together in all charts and tables.
for (const box of document.querySelectorAll(".switches input")) {
  const show = () => {
    for (const part of document.querySelectorAll(`[data-run="${box.value}"]`)) {
      // SVG elements have no property `hidden`, but heed the attribute by our style sheet.
      part.toggleAttribute("hidden", !box.checked);
    }
  };
  box.addEventListener("change", show);
  show(); // a reload keeps the boxes as they were
}

// A click on a heading sorts by its column.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  };
  heads.forEach((head, column) => {
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((one, other) => {
        const a = value(one, column), b = value(other, column);
        const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
        return (down ? -order : order) || 0;
      });
      table.tBodies[0].append(...rows);
    };
    head.tabIndex = 0;
    head.setAttribute("role", "button");
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
    });
  });
}

// The spectrogram is the player: a click plays, a line runs along.
for (const player of document.querySelectorAll(".player")) {
  const audio = player.querySelector("audio"), button = document.createElement("button");
  button.type = "button";
  button.className = "play";
  button.setAttribute("aria-label", audio.getAttribute("aria-label"));
  button.setAttribute("aria-pressed", "false");
  const run = () => {
    if (audio.duration) button.style.setProperty("--at", `${100 * audio.currentTime / audio.duration}%`);
    if (!audio.paused) requestAnimationFrame(run);
  };
  button.addEventListener("click", () => {
    if (!audio.paused) { audio.pause(); return; }
    for (const other of document.querySelectorAll("audio")) other.pause();
    audio.play().catch(() => { audio.hidden = false; });
  });
  audio.addEventListener("play", () => { button.setAttribute("aria-pressed", "true"); run(); });
  for (const end of ["pause", "ended"]) audio.addEventListener(end, () => button.setAttribute("aria-pressed", "false"));
  audio.hidden = true;
  player.querySelector(".picture").append(button);
}

for (const box of document.querySelectorAll("pre.copy")) {
  const text = box.textContent, button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(box.querySelector("code"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  box.prepend(button);
}
