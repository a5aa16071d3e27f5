//! JSON in templates: read without losing how numbers were written, and written compact and sorted.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{
    super::json::{Json, MAX_DEPTH, Malformed},
    budget::{Budget, Draft},
    encode,
    functions::{Args, Session},
    problem::Problem,
    value::{MAX_NUMBER, Text, Value},
};

pub(super) fn fromjson<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    spend_parsing(&text, budget)?;
    let json = Json::parse_any(text.as_bytes()).map_err(|malformed| match malformed {
        Malformed::NotAnObject => Problem::new("this is not JSON of Unicode text: look at how the value was stored"),
        Malformed::TooDeep => {
            Problem::new(format!("this JSON is nested more than {MAX_DEPTH} deep: store the inner part as a string"))
        }
    })?;
    value(json)
}

/// Pays for taking JSON apart before it is done: each level of nesting reads its text once more, each comma and bracket may begin an
/// item. Those within strings count too, which is less work than to tell them apart.
fn spend_parsing(text: &str, budget: &mut Budget) -> Result<(), Problem> {
    let (mut depth, mut deepest, mut items) = (0_usize, 0, 1_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => (depth, items) = (depth + 1, items + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => items += 1,
            _ => {}
        }
        deepest = depth.max(deepest);
    }
    budget.spend_bytes(text.len().saturating_mul(deepest.min(MAX_DEPTH) + 2))?;
    budget.spend_items(items)
}

fn value<'a>(json: Json<'_>) -> Result<Value<'a>, Problem> {
    match json {
        Json::Object(object) => {
            let fields = object.into_fields().map(|(name, json)| Ok((Zeroizing::new(name).into(), value(json)?)));
            Value::map(fields.collect::<Result<BTreeMap<_, _>, Problem>>()?)
        }
        Json::Array(items) => Value::list(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Json::Text(text) => Ok(Value::text(text)),
        Json::Plain(raw) if raw.get().len() > MAX_NUMBER => Err(Problem::new(format!(
            "this JSON has a number of more than {MAX_NUMBER} characters: store it as a string"
        ))),
        Json::Plain(raw) => Ok(match raw.get() {
            "null" => Value::None,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            // `-0` is no whole number that prints as it was written.
            number => match number.parse() {
                Ok(whole) if number != "-0" => Value::Int(whole),
                _ => Value::Number(Zeroizing::new(number.to_owned()).into()),
            },
        }),
    }
}

pub(super) fn tojson<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let mut draft = Draft::new();
    write(&args.subject, &mut draft, &mut session.budget)?;
    Ok(Value::text(draft))
}

fn write(value: &Value<'_>, draft: &mut Draft, budget: &mut Budget) -> Result<(), Problem> {
    budget.spend_step()?;
    match value {
        Value::Text(text) => write_string(text, draft, budget),
        Value::List(list) => {
            let mut before = "[";
            for item in &list.items {
                draft.push(before, budget)?;
                write(item, draft, budget)?;
                before = ",";
            }
            draft.push(if list.items.is_empty() { "[]" } else { "]" }, budget)
        }
        Value::Map(map) => {
            let mut before = "{";
            for (name, value) in &map.entries {
                draft.push(before, budget)?;
                write_string(name, draft, budget)?;
                draft.push(":", budget)?;
                write(value, draft, budget)?;
                before = ",";
            }
            draft.push(if map.entries.is_empty() { "{}" } else { "}" }, budget)
        }
        plain => draft.push(&plain.to_text()?, budget),
    }
}

fn write_string(text: &str, draft: &mut Draft, budget: &mut Budget) -> Result<(), Problem> {
    budget.spend_bytes(text.len())?;
    draft.push("\"", budget)?;
    for character in text.chars() {
        match character {
            '"' => draft.push("\\\"", budget)?,
            '\\' => draft.push(r"\\", budget)?,
            '\n' => draft.push(r"\n", budget)?,
            '\r' => draft.push(r"\r", budget)?,
            '\t' => draft.push(r"\t", budget)?,
            '\u{8}' => draft.push(r"\b", budget)?,
            '\u{C}' => draft.push(r"\f", budget)?,
            control @ '\0'..' ' => draft.push(&format!("\\u{:04x}", u32::from(control)), budget)?,
            other => draft.push_char(other, budget)?,
        }
    }
    draft.push("\"", budget)
}

pub(super) fn dockerconfigjson<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let (server, username, password) =
        (args.needed_text(0, budget)?, args.needed_text(1, budget)?, args.needed_text(2, budget)?);
    let email = args.text(3, budget)?;
    if username.contains(':') {
        return Err(Problem::new(
            "the user name of a registry has a colon in it, where its password would begin: take another",
        ));
    }
    let mut pair = Draft::sized(username.len().saturating_add(password.len()).saturating_add(1), budget)?;
    for piece in [&*username, ":", &*password] {
        pair.push(piece, budget)?;
    }
    let auth = encode::standard(&pair.finish(), budget)?;
    let mut login = BTreeMap::from([
        (Text::Borrowed("auth"), Value::text(auth)),
        (Text::Borrowed("password"), Value::Text(password)),
        (Text::Borrowed("username"), Value::Text(username)),
    ]);
    login.extend(email.map(|email| (Text::Borrowed("email"), Value::Text(email))));
    let auths = Value::map(BTreeMap::from([(server, Value::map(login)?)]))?;
    let mut draft = Draft::new();
    write(&Value::map(BTreeMap::from([(Text::Borrowed("auths"), auths)]))?, &mut draft, budget)?;
    Ok(Value::text(draft))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{failure, rendered};

    #[test]
    fn numbers_print_as_they_were_written() {
        let text = "[1.0, 12345678901234567890123, -0, 1e5, 5432, true, false, null, -7]";
        let written =
            rendered("{% for n in x | fromjson %}{{ n }} {% endfor %}{{ x | fromjson | tojson }}", &[("x", text)]);
        assert_eq!(written, format!("{} {}", text[1..text.len() - 1].replace(',', ""), text.replace(' ', "")));
    }

    #[test]
    fn json_is_pointed_into() {
        let data = &[("x", r#"{"a": {"b": [{"c d": "found"}]}, "n": 3}"#)];
        assert_eq!(rendered("{{ (x | fromjson).a.b[0]['c d'] }}", data), "found");
        assert_eq!(rendered("{% set y = x | fromjson %}{{ y.a.b[-1]['c d'] }} {{ y.n + 1 }}", data), "found 4");
        assert_eq!(rendered("{{ (x | fromjson).nope | default('none') }}", data), "none");
        assert!(failure("{{ (x | fromjson).nope }}", data).contains("\"nope\""));
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        assert!(failure("{{ x | fromjson }}", &[("x", "{canary")]).contains("this is not JSON"));
        let number = "7".repeat(401);
        assert!(failure("{{ x | fromjson }}", &[("x", &number)]).contains("more than 400 characters"));
        assert_eq!(rendered("{{ x | fromjson }}", &[("x", &number[1..])]), number[1..]);
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        assert!(failure("{{ x | fromjson }}", &[("x", &deep)]).contains("more than 128 deep"));
        assert_eq!(
            rendered("{{ x | fromjson | tojson }}", &[("x", &deep[1..deep.len() - 1])]),
            deep[1..deep.len() - 1]
        );
        assert!(
            failure("{% set y = x | fromjson %}{{ [y] | tojson }}", &[("x", &deep[1..deep.len() - 1])]).contains("128")
        );
    }

    #[test]
    fn a_registry_configuration_quotes_what_it_is_given() {
        let template = "{{ dockerconfigjson(server=s, username='ci', password=p, email='a@b') }}";
        assert_eq!(
            rendered(template, &[("s", "r\"x"), ("p", "p:\\w")]),
            r#"{"auths":{"r\"x":{"auth":"Y2k6cDpcdw==","email":"a@b","password":"p:\\w","username":"ci"}}}"#
        );
        assert!(failure("{{ dockerconfigjson('s', 'c:i', 'canary') }}", &[]).contains("colon"));
        assert!(failure("{{ dockerconfigjson('s', 'ci') }}", &[]).contains("needs the argument password"));
    }

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
            prop_assert_eq!(rendered("{{ x | tojson }}", &[("x", &text)]), serde_json::to_string(&text).unwrap());
        }
    }
}
