"use strict";
{
  const form = document.getElementById("find"), words = document.getElementById("words"), found = document.getElementById("found");
  const plain = (text) => text.toLowerCase().normalize("NFD").replace(/[\u0300-\u036f]/g, "");
  const tables = [...document.querySelectorAll("main section")].map((section) => {
    const rows = [...section.querySelectorAll("tbody tr")].map((row) => ({ row, text: plain(row.textContent) }));
    const head = plain([...section.children].filter((part) => !part.matches(".wide")).map((part) => part.textContent).join(" "));
    return { section, rows, head, entry: document.querySelector(`nav a[href="#${encodeURIComponent(section.id)}"]`) };
  });
  const find = () => {
    const wanted = plain(words.value).split(/\s+/).filter(Boolean);
    const has = (text) => wanted.every((word) => text.includes(word));
    let tablesShown = 0, columnsShown = 0;
    for (const { section, rows, head, entry } of tables) {
      const whole = has(head);
      let any = whole;
      for (const { row, text } of rows) {
        row.hidden = !whole && !has(text);
        any ||= !row.hidden;
        if (!row.hidden) columnsShown += 1;
      }
      section.hidden = !any;
      if (entry) entry.parentElement.hidden = !any;
      if (any) tablesShown += 1;
    }
    found.textContent = wanted.length ? `${columnsShown} columns in ${tablesShown} tables` : "";
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("input", find);
}
