// Signing in.
import { Callout, Field, Form, html, useEffect } from "../lib/ui.js";
import { ended, signIn } from "../lib/api.js";
import { t } from "../lib/i18n.js";
import { link } from "../lib/router.js";

/** @param {{note: any, preferences: any}} props what a one-time link came to; language and theme */
export default function SignIn({ note, preferences }) {
  useEffect(() => { document.title = `${t("signin.title")} · qy-lty`; });
  return html`<main class="signin">
    <div class="signin-box">
      <img src=${new URL("../icon.svg", import.meta.url).href} alt="" width="44" height="44" />
      <h1>${t("signin.title")}</h1>
      ${ended.value && html`<${Callout} kind="warn">${t("signin.ended")}<//>`}
      ${note}
      <${Form} submit=${t("signin.action")} label=${t("signin.title")} onSubmit=${(/** @type {any} */ { username, password }) => signIn(username, password)}>
        <${Field} label=${t("signin.name")} name="username" required focus input=${{ autocomplete: "username", maxlength: 150, autocapitalize: "none", spellcheck: false }} />
        <${Field} label=${t("ui.password")} name="password" type="password" required input=${{ autocomplete: "current-password", maxlength: 128 }} />
      <//>
      <p class="soft">${t("signin.link")} <code>qy-lty link</code></p>
      <p><a href=${link("docs")}>${t("signin.docs")}</a></p>
    </div>
    ${preferences}
  </main>`;
}
