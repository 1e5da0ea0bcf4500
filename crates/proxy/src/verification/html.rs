//! The verdicts as pages. Whatever a node says is escaped, and nothing in a page runs.

use std::fmt::{self, Display, Write};

use attest::verify::Outcome;

use super::{NodeView, Verification};

/// The one style of these pages; their policy names its digest.
pub(super) const STYLE: &str = include_str!("../pages/style.css");

/// What each node's evidence showed, check by check.
pub(super) fn verdicts(verification: &Verification) -> String {
    let mut body = String::from("<h1>Verification</h1>");
    summary(&mut body, verification);
    for node in &verification.nodes {
        details(&mut body, node);
    }
    body.push_str("<p><a href=\"/\">How to point a program here</a></p>");
    document("Verification", &body)
}

/// The verdict in short, and what to tell a program.
pub(super) fn start(verification: &Verification) -> String {
    let mut body = String::from("<h1>Obscura proxy</h1>");
    summary(&mut body, verification);
    let base = format!("http://{}", verification.listen);
    push(
        &mut body,
        format_args!(
            "<p><a href=\"/verification\">Every check</a>, as JSON with <code>Accept: application/json\
             </code>.</p><h2>Draw here</h2>\
             <p><a href=\"/page#node={1}{2}\">A page</a> that verifies and seals by itself, by this \
             release's own policy.</p><h2>Point a program here</h2>\
             <p>OpenAI's clients, in any language:</p>\
             <pre>client = OpenAI(base_url=\"{0}/v1\", api_key=\"any\")\n\
             client.images.generate(model=\"…\", prompt=\"…\")</pre>\
             <p>By environment: <code>OPENAI_BASE_URL={0}/v1</code>. Atoma's SDKs:</p>\
             <pre>AtomaSDK(bearer_auth=\"any\", server_url=\"{0}\")</pre>\
             <p>By hand:</p>\
             <pre>curl {0}/v1/images/generations --json '{{\"model\": \"…\", \"prompt\": \"…\"}}'</pre>\
             <p>Prompts are in clear text between the program and this page's address, and nowhere else: \
             what leaves this machine is sealed to the keys of nodes that are verified above.</p>",
            Escaped(&base),
            Escaped(verification.nodes.first().map_or("", |node| node.url.as_str())),
            if verification.policy.accepts_simulated { "&amp;demo" } else { "" },
        ),
    );
    document("Obscura proxy", &body)
}

fn summary(body: &mut String, verification: &Verification) {
    let (class, words) = match verification.ready {
        true => ("good", "Requests are sealed to verified nodes."),
        false => ("bad", "No node can be trusted now: nothing is sent to any."),
    };
    push(body, format_args!("<p class=\"verdict {class}\">{words}</p>"));
    if verification.policy.accepts_simulated {
        body.push_str(
            "<p class=\"verdict bad\">Simulated nodes are accepted here: whoever runs one reads every \
             prompt.</p>",
        );
    }
    push(
        body,
        format_args!(
            "<p>Policy: {} <code>{}</code></p><table><tr><th>node</th><th>state</th><th>passed</th>\
             <th>failed</th><th>not checked</th></tr>",
            Escaped(&verification.policy.name),
            Escaped(&verification.policy.sha256),
        ),
    );
    for node in &verification.nodes {
        let count = |outcome| node.checks(outcome);
        push(
            body,
            format_args!(
                "<tr><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Escaped(node.url.as_str()),
                if node.state == "verified" { "good" } else { "bad" },
                node.state,
                count(Outcome::Pass),
                count(Outcome::Fail),
                count(Outcome::Skip),
            ),
        );
    }
    body.push_str("</table>");
}

fn details(body: &mut String, node: &NodeView) {
    push(body, format_args!("<h2>{}</h2>", Escaped(node.url.as_str())));
    if let Some(reason) = &node.reason {
        push(body, format_args!("<p class=\"bad\">{}</p>", Escaped(reason.as_str())));
    }
    if let Some(until) = node.valid_until {
        push(
            body,
            format_args!("<p>Its keys are attested until {until} (seconds since 1970).</p>"),
        );
    }
    let Some(evidence) = &node.evidence else { return };
    push(
        body,
        format_args!(
            "<p>{} at {}, nonce <code>{}</code>, report <code>{}</code></p><table>",
            evidence.appraisal.verdict,
            evidence.appraised_at,
            Escaped(&evidence.nonce),
            Escaped(&evidence.report_sha256),
        ),
    );
    for check in &evidence.appraisal.checks {
        push(
            body,
            format_args!(
                "<tr><td class=\"{}\">{}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                if check.outcome == Outcome::Fail { "bad" } else { "other" },
                check.outcome,
                check.id,
                Escaped(check.title),
                Escaped(&check.detail),
            ),
        );
    }
    body.push_str("</table>");
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>{body}</body></html>"
    )
}

fn push(body: &mut String, words: fmt::Arguments<'_>) {
    body.write_fmt(words).expect("a text takes every write");
}

/// Text that is no markup, in elements and in attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let hostile = "<script>alert(1)</script> \"'&";
        assert_eq!(
            Escaped(hostile).to_string(),
            "&lt;script&gt;alert(1)&lt;/script&gt; &quot;&#39;&amp;"
        );
    }
}
