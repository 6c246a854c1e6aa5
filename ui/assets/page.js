// The pages work without this script. It adds a button that shows a password, prevents a form
// from being submitted twice, shows times in the browser's time zone, and continues after a
// sign-out.
"use strict";

for (const field of document.querySelectorAll(".secret > input")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "show";
  button.id = "show-" + field.id;
  field.labels[0].id ||= "label-" + field.id;
  // A page with several password fields says what each belongs to.
  button.setAttribute("aria-labelledby", [button.id, field.labels[0].id, field.dataset.of].filter(Boolean).join(" "));
  const show = (visible) => {
    field.type = visible ? "text" : "password";
    button.textContent = visible ? document.body.dataset.hide : document.body.dataset.show;
  };
  show(false);
  button.addEventListener("click", () => show(field.type === "password"));
  // Password managers read fields that have the type password when the form is submitted.
  field.form.addEventListener("submit", () => show(false));
  field.after(button);
}

// Times are in the language of the page, in the variety that the browser prefers.
const own = document.documentElement.lang;
const language = navigator.language.split("-")[0] === own ? navigator.language : own === "en" ? "en-GB" : own;
for (const time of document.querySelectorAll("time[datetime]")) {
  const when = new Date(time.dateTime);
  if (isNaN(when)) continue;
  const style = { dateStyle: "long" };
  if ("minute" in time.dataset) style.timeStyle = "short";
  time.textContent = new Intl.DateTimeFormat(language, style).format(when);
}

// Recovery codes can be selected, downloaded and printed without these buttons, too.
for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const lines = document.querySelectorAll("#" + button.dataset.copy + " code");
    await navigator.clipboard.writeText([...lines].map((line) => line.textContent).join("\n"));
    button.textContent = button.dataset.done;
  });
}
for (const button of document.querySelectorAll("button[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => print());
}

const sent = new WeakSet();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (sent.has(form)) event.preventDefault();
  sent.add(form);
  setTimeout(() => sent.delete(form), 5000); // it may not have arrived
});
// The back button may restore the page from the browser's memory.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) for (const form of document.forms) sent.delete(form);
});

// After a sign-out, the browser returns to the application when the others have been notified:
// the load event waits for their frames, but no longer than three seconds.
const onward = document.querySelector("a[data-continue]");
if (onward) {
  const go = () => location.replace(onward.href);
  const late = setTimeout(go, 3000);
  addEventListener("load", () => {
    clearTimeout(late);
    go();
  });
}
