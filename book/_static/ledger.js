// The filter of the ledger of claims: three lists, kept in the address. Without this script the whole table is there.
(() => {
  "use strict";
  const form = document.getElementById("ledger-filter");
  const rows = [...document.querySelectorAll("#ledger tbody tr")];
  if (!form || rows.length === 0) return;
  const lists = [...form.querySelectorAll("select")];
  const asked = new URLSearchParams(location.search);
  for (const list of lists) {
    for (const value of new Set(rows.map((row) => row.dataset[list.name]))) list.add(new Option(value, value));
    const wanted = asked.get(list.name);
    if ([...list.options].some((option) => option.value === wanted)) list.value = wanted;
  }
  const apply = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = lists.some((list) => list.value !== "" && row.dataset[list.name] !== list.value);
      if (!row.hidden) shown += 1;
    }
    form.querySelector("output").value = `${shown} of ${rows.length} claims`;
    const chosen = new URLSearchParams(lists.filter((list) => list.value !== "").map((list) => [list.name, list.value]));
    history.replaceState(null, "", `${location.pathname}${chosen.size ? `?${chosen}` : ""}${location.hash}`);
  };
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();
