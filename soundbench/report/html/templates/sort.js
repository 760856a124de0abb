for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent.trim();
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const x = parseFloat(text(a)), y = parseFloat(text(b));
        const order = isNaN(x) || isNaN(y) ? isNaN(y) - isNaN(x) || text(b).localeCompare(text(a)) : y - x;
        return down ? order : -order;
      });
      body.append(...rows);
    });
  });
}
