//! `docs/templates.md`: how templates are written, and all that they can call, for users.
//!
//! The text is written by people, in `templates.md` beside this file; the tables are those of the renderer, whose tests run every
//! example.

use okms_operator::plan::{FunctionDoc, FunctionKind, template_functions};

const TEXT: &str = include_str!("templates.md");

pub(super) fn page() -> String {
    let tables = [
        (FunctionKind::Filter, "Filters", "Used as `{{ value | filter }}`."),
        (FunctionKind::Test, "Tests", "Used as `{% if value is test %}`, or `is not`."),
        (FunctionKind::Function, "Functions", "Used as `{{ function(…) }}`."),
    ];
    let tables = tables.map(|(kind, title, usage)| {
        let rows = template_functions().filter(|doc| doc.kind == kind).map(row);
        format!("\n### {title}\n\n{usage}\n\n{HEAD}{}", rows.collect::<String>())
    });
    format!("{TEXT}{}", tables.concat())
}

const HEAD: &str = "| signature | what it does | example | result |\n|---|---|---|---|\n";

fn row(doc: &FunctionDoc) -> String {
    let FunctionDoc { signature, help, example, result, .. } = doc;
    format!("| {} | {} | {} | {} |\n", code(signature), cell(help), code(example), code(&result.replace('\n', "↵")))
}

/// A text that ends no cell, also within code.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Text as it is.
fn code(text: &str) -> String {
    // As many marks as no text here has in a row.
    let mark = if text.contains('`') { "``" } else { "`" };
    format!("{mark}{}{mark}", cell(text))
}

#[cfg(test)]
mod tests {
    use okms_operator::plan::{Renderer, TemplateError};

    use super::*;

    /// Renders over the keys that the page speaks of.
    fn render(template: &str) -> Result<String, TemplateError> {
        let keys = [("user", "shop"), ("password", "p@ss/word"), ("host", "db.example.com")];
        let more = [("server", r#"{"host": "db.example.com"}"#), ("hosts", "a,b"), ("port", "443"), ("tls.crt", "PEM")];
        // Only the first are in the secret that the page shows.
        let more = more.into_iter().filter(|_| !template.contains("usr"));
        let keys = keys.into_iter().chain(more).map(|(key, text)| (key, text.as_bytes()));
        Renderer::new(keys, "shop/db").render("the template of key DATABASE_URL", template).map(|text| text.to_string())
    }

    #[test]
    fn what_the_text_shows_is_what_templates_make() {
        for (template, result) in [
            (
                "postgres://{{ user }}:{{ password | urlencode }}@{{ host }}/shop",
                "postgres://shop:p%40ss%2Fword@db.example.com/shop",
            ),
            ("{{ data['tls.crt'] }}", "PEM"),
            ("{{ data.user }}", "shop"),
            ("{{ (server | fromjson).host }}", "db.example.com"),
            ("{{ password | trim | urlencode }}", "p%40ss%2Fword"),
            ("{% if port == '443' %}https{% elif port == '80' %}http{% else %}tcp{% endif %}", "https"),
            ("{{ 's' if port == '443' else '' }}", "s"),
            ("{% for host in hosts | split(',') %}{{ loop.index }}: {{ host }}{% endfor %}", "1: a2: b"),
            ("{% set pair = user ~ ':' ~ password %}", ""),
            ("{% raw %}{{ for another program }}{% endraw %}", "{{ for another program }}"),
            ("{# nobody sees it #}", ""),
            ("{{ options | default('') }}", ""),
            (
                "{% for name, value in data | items -%}\n{{ name }}={{ value | quote_dotenv }}\n{% endfor -%}\n",
                "host=\"db.example.com\"\nhosts=\"a,b\"\npassword=\"p@ss/word\"\nport=\"443\"\n\
                 server=\"{\\\"host\\\": \\\"db.example.com\\\"}\"\ntls.crt=\"PEM\"\nuser=\"shop\"\n",
            ),
        ] {
            assert!(TEXT.contains(&cell(template)) || TEXT.contains(template), "{template}");
            assert_eq!(render(template).as_deref(), Ok(result), "{template}");
        }
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let error = render("postgres://{{ usr }}:{{ password | urlencode }}@{{ host }}/shop").unwrap_err();
        assert!(words(TEXT).contains(&error.message), "{error}");
        assert!(TEXT.contains("with `postgres://shop:p%40ss%2Fword@db.example.com/shop`"));
    }

    fn doc(example: &'static str, result: &'static str) -> FunctionDoc {
        FunctionDoc { kind: FunctionKind::Filter, signature: "f(a, b=1)", help: "One of a|b.", example, result }
    }

    #[test]
    fn a_row_is_one_line_with_four_cells_that_show_what_is_written() {
        let row = row(&doc("{{ 'x' | f(1) }}", "one\ntwo\n"));
        assert_eq!(row, "| `f(a, b=1)` | One of a\\|b. | `{{ 'x' \\| f(1) }}` | `one↵two↵` |\n");
    }

    #[test]
    fn everything_that_templates_can_call_is_on_the_page_once() {
        let page = page();
        for doc in template_functions() {
            let start = format!("\n| `{}` |", doc.signature);
            assert_eq!(page.matches(&start).count(), 1, "{}", doc.signature);
            let code = [doc.signature, doc.example, doc.result];
            assert!(code.iter().all(|text| !text.contains("``") && !text.contains('↵')), "{}", doc.signature);
        }
    }
}
