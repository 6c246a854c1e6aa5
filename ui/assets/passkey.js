// Passkeys (WebAuthn Level 3). Forms with data-passkey are hidden without this script. The names of
// ceremonies are those of the server: sign_in, confirm, create, sign_up and upgrade.
"use strict";

(() => {
  const api = window.PublicKeyCredential;
  if (!api || !navigator.credentials) return;

  // Browsers convert the options and responses themselves; the functions here are for those that do not
  // (Safari before 18.4).
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const base64url = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const listed = (list) => list.map((c) => ({ ...c, id: bytes(c.id) }));
  const parseCreation = (o) =>
    api.parseCreationOptionsFromJSON
      ? api.parseCreationOptionsFromJSON(o)
      : { ...o, challenge: bytes(o.challenge), user: { ...o.user, id: bytes(o.user.id) }, excludeCredentials: listed(o.excludeCredentials) };
  const parseRequest = (o) =>
    api.parseRequestOptionsFromJSON
      ? api.parseRequestOptionsFromJSON(o)
      : { ...o, challenge: bytes(o.challenge), allowCredentials: listed(o.allowCredentials) };
  const encode = (credential) => {
    if (credential.toJSON) return credential.toJSON();
    const r = credential.response;
    const response = { clientDataJSON: base64url(r.clientDataJSON) };
    if (r.attestationObject) {
      response.attestationObject = base64url(r.attestationObject);
      response.transports = r.getTransports ? r.getTransports() : [];
    } else {
      response.authenticatorData = base64url(r.authenticatorData);
      response.signature = base64url(r.signature);
      if (r.userHandle) response.userHandle = base64url(r.userHandle);
    }
    return { id: credential.id, rawId: base64url(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
  };

  const capabilities = (async () => (api.getClientCapabilities ? api.getClientCapabilities() : {}))().catch(() => ({}));

  // options asks the server for the options of a ceremony.
  async function options(form) {
    const body = new URLSearchParams(new FormData(form));
    body.set("for", form.dataset.passkey);
    body.delete("response");
    const answer = await fetch(form.dataset.options, { method: "POST", body });
    const content = await answer.json();
    if (content.location) location.assign(content.location); // the page is out of date
    if (!answer.ok) throw Object.assign(new Error("no options"), { reason: content.message });
    if (form.elements.user) form.elements.user.value = content.user.id;
    return content;
  }

  function send(form, credential) {
    form.elements.response.value = JSON.stringify(encode(credential));
    form.submit();
  }

  // Autofill: the request waits until the user chooses a passkey in the field for the username. Its
  // challenge is renewed before it expires.
  let waiting = null;
  async function offerInField(form) {
    if (!api.isConditionalMediationAvailable || !(await api.isConditionalMediationAvailable())) return;
    for (let failures = 0; failures < 5; ) {
      const control = new AbortController();
      waiting = control;
      const renew = setTimeout(() => control.abort("renew"), 4 * 60 * 1000);
      try {
        const publicKey = parseRequest(await options(form));
        if (control.signal.aborted) throw control.signal.reason;
        send(form, await navigator.credentials.get({ publicKey, mediation: "conditional", signal: control.signal }));
        return;
      } catch {
        if (control.signal.aborted && control.signal.reason !== "renew") return;
        if (!control.signal.aborted) failures++;
      } finally {
        clearTimeout(renew);
      }
    }
  }

  // choose lets the user choose a passkey in a dialog of the browser. With the immediate mode the dialog
  // has only passkeys that are at hand, and nothing appears if there are none.
  let immediate = true;
  async function choose(form) {
    const publicKey = parseRequest(await options(form));
    if (immediate && form.dataset.passkey === "sign_in" && (await capabilities).immediateGet) {
      const began = performance.now();
      try {
        return await navigator.credentials.get({ publicKey, uiMode: "immediate" });
      } catch (error) {
        immediate = false; // next time with all passkeys, also those on other devices
        if (error.name !== "NotAllowedError" || performance.now() - began > 1000) {
          if (form.dataset.elsewhere) form.querySelector("button span").textContent = form.dataset.elsewhere;
          throw error;
        }
      }
    }
    return navigator.credentials.get({ publicKey });
  }

  async function create(form) {
    return navigator.credentials.create({ publicKey: parseCreation(await options(form)) });
  }

  // copy takes what the user has typed from another form. It returns false if something is missing there.
  function copy(form) {
    const from = document.getElementById(form.dataset.from);
    return ["username", "email", "code"].every((name) => {
      const field = from.elements[name];
      if (field) form.elements[name].value = field.value;
      return !field || field.reportValidity();
    });
  }

  async function run(form) {
    if (form.dataset.from && !copy(form)) return;
    const button = form.querySelector("button");
    const message = form.querySelector("[data-message]");
    if (waiting) waiting.abort("button");
    button.disabled = true;
    if (message) message.hidden = true;
    try {
      send(form, await (["create", "sign_up"].includes(form.dataset.passkey) ? create(form) : choose(form)));
    } catch (error) {
      if (message) {
        message.textContent = error.reason || (error.name === "InvalidStateError" && form.dataset.exists) || form.dataset.failed;
        message.hidden = false;
      }
      button.disabled = false;
      if ("autofill" in form.dataset) offerInField(form);
    }
  }

  // upgrade creates a passkey without asking, if the browser's password manager does that, and goes on.
  async function upgrade(form) {
    const control = new AbortController();
    const late = setTimeout(() => control.abort(), 5000);
    try {
      const publicKey = parseCreation(await options(form));
      send(form, await navigator.credentials.create({ publicKey, mediation: "conditional", signal: control.signal }));
    } catch {
      location.replace(form.dataset.next);
    } finally {
      clearTimeout(late);
    }
  }

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    if (form.dataset.passkey === "upgrade") {
      upgrade(form);
      continue;
    }
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      run(form);
    });
    if ("autofill" in form.dataset) offerInField(form);
    if ("start" in form.dataset) run(form);
  }

  // A sign-in with a password tells the server that this browser may create a passkey afterwards.
  for (const field of document.querySelectorAll("input[data-upgrade]")) {
    capabilities.then((c) => {
      if (c.conditionalCreate) field.disabled = false;
    });
  }

  // Password managers are told which passkeys exist, so that they offer no others, and what their user is
  // called now.
  const signal = (name, element, attribute) => {
    if (api[name] && element.dataset[attribute]) api[name](JSON.parse(element.dataset[attribute])).catch(() => {});
  };
  for (const element of document.querySelectorAll("[data-passkey-signals]")) {
    signal("signalUnknownCredential", element, "unknown");
    signal("signalAllAcceptedCredentials", element, "accepted");
    signal("signalCurrentUserDetails", element, "details");
  }
})();
