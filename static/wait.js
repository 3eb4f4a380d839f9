// Keep a button still until its time has come, counting down in the sentence beside it.
for (const button of document.querySelectorAll("button[data-wait]")) {
  const note = button.nextElementSibling;
  const end = Date.now() + button.dataset.wait * 1000;
  button.disabled = true;
  const timer = setInterval(() => {
    const left = Math.ceil((end - Date.now()) / 1000);
    note.textContent = left > 0 ? note.textContent.replace(/\d+/, left) : "";
    if (left > 0) return;
    button.disabled = false;
    clearInterval(timer);
  }, 1000);
}
