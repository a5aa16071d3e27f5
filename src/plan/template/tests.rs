//! What templates promise, one promise at a time.

use std::time::{Duration, Instant};

use super::*;

/// What a template makes of these keys.
pub(super) fn rendered(template: &str, data: &[(&str, &str)]) -> String {
    match try_render(template, data) {
        Ok(text) => text,
        Err(error) => panic!("{template:?}: {error}"),
    }
}

/// Why a template fails, without the words that name it. No value that has `canary` in it shows.
pub(super) fn failure(template: &str, data: &[(&str, &str)]) -> String {
    let error = try_render(template, data).expect_err("the template was refused");
    assert_eq!(error.kind, TemplateErrorKind::Failed, "{error}");
    assert!(!error.message.contains("canary"), "{error}");
    error.message.strip_prefix("the template of key k").expect("an error names its template").to_owned()
}

fn try_render(template: &str, data: &[(&str, &str)]) -> Result<String, TemplateError> {
    let data = data.iter().map(|(key, text)| (*key, text.as_bytes()));
    Renderer::new(data, "shop/web").render("the template of key k", template).map(|text| text.to_string())
}

fn bytes_and_text() -> Renderer<'static> {
    Renderer::new([("keystore", b"\xFE\xED".as_slice()), ("user", b"app".as_slice())], "")
}

#[test]
fn every_example_of_the_documentation_makes_what_it_says() {
    for doc in functions() {
        let made = Renderer::new([], "").render("the example", doc.example).map(|text| text.to_string());
        assert_eq!(made.as_deref(), Ok(doc.result), "{}", doc.signature);
        assert!(doc.example.contains(doc.name()), "{}", doc.signature);
    }
}

#[test]
fn keys_are_names_or_in_the_map() {
    let data = &[("user", "app"), ("tls.crt", "PEM"), ("data", "shadowed"), ("htpasswd", "key")];
    assert_eq!(rendered("{{ user }} {{ data['tls.crt'] }} {{ data.user }}", data), "app PEM app");
    assert_eq!(rendered("{{ data['data'] }} {{ data | length }} {{ htpasswd }}", data), "shadowed 4 key");
    assert_eq!(rendered("{% for name in data %}{{ name }};{% endfor %}", data), "data;htpasswd;tls.crt;user;");
    assert!(failure("{% set data = 1 %}", data).contains("take another name"));
}

#[test]
fn a_text_without_tags_is_kept_as_it_is() {
    for text in ["", "a\n", "a\r\n\r\n", "  { } %} }} \t\n\n", "<&'\">é"] {
        assert_eq!(rendered(text, &[]), text);
    }
    assert_eq!(rendered("{{ x }}\n", &[("x", "<&'\">\n")]), "<&'\">\n\n");
}

#[test]
fn statements_do_what_jinja_says() {
    let data = &[("hosts", "a,b,c"), ("empty", "")];
    for (template, result) in [
        ("{% if hosts %}yes{% elif empty %}no{% endif %}", "yes"),
        ("{% if empty or not hosts %}a{% else %}b{% endif %}", "b"),
        ("{% for h in hosts | split(',') %}{{ loop.index }}{{ h }}{{ ',' if not loop.last }}{% endfor %}", ""),
        (
            "{% for h in hosts | split(',') if h != 'b' %}{{ loop.index }}{{ h }}/{{ loop.length }} {% endfor %}",
            "1a/2 2c/2 ",
        ),
        ("{% for h in empty | lines %}x{% else %}none{% endfor %}", "none"),
        ("{% set x = 1 %}{% for i in [2] %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "21"),
        ("{% with x = 'in' %}{{ x }}{% endwith %}{{ x | default('out') }}", "inout"),
        ("{% set x %}a{{ hosts }}{% endset %}{{ x | upper }}", "AA,B,C"),
        ("{% set x | upper %}a{% endset %}{{ x }}", "A"),
        ("{% filter upper | replace('A', '-') %}xa{% endfilter %}", "X-"),
        ("{% for k, v in {'b': 1, 'a': 2} | items %}{{ k }}{{ v }}{% endfor %}", "a2b1"),
        ("{% raw %}{{ x }}{% endraw %}{# a comment #}", "{{ x }}"),
        ("a  {%- if true -%}  b  {%- endif %}", "ab"),
        ("{{ 'a' if empty else 'b' }}{{ hosts[0:1] }}{{ hosts[-1:] }}{{ [1, 2, 3][1:] | join }}", "bac23"),
        (
            "{{ 1 < 2 < 3 }} {{ 'b' in hosts }} {{ 'x' not in ['y'] }} {{ none }} {{ 1 == 1.0 }}",
            "true true true null true",
        ),
        ("{{ 'a' ~ 1 ~ true }} {{ 'a' + 'b' }} {{ 5 - 7 }} {{ -1 }}", "a1true ab -2 -1"),
        ("{% for x in [1] %}{% for y in [1, 2] %}{{ loop.index0 }}{% endfor %}{{ loop.first }}{% endfor %}", "01true"),
    ] {
        match result {
            "" => assert!(failure(template, data).contains("add an else")),
            result => assert_eq!(rendered(template, data), result, "{template}"),
        }
    }
}

#[test]
fn what_does_not_exist_is_an_error_that_says_what_does() {
    let data = &[("password", "canary"), ("tls.crt", "canary")];
    assert_eq!(
        failure("a\n  é{{ passwrod }}", data),
        r#", line 2, column 7: there is no key "passwrod" (the keys are "password", "tls.crt"): correct the name, or say with default what stands in for it"#
    );
    for template in [
        "{{ data['nope'] }}",
        "{{ data.nope | upper }}",
        "{% if nope %}{% endif %}",
        "{{ [nope] }}",
        "{{ nope ~ 'x' }}",
    ] {
        assert!(failure(template, data).contains(r#"there is no key "nope" (the keys are "password", "tls.crt")"#));
    }
    for (template, key) in [("{{ tls.crt }}", "tls.crt"), ("{{ data.db-password }}", "db-password")] {
        let data = &[("tls.crt", "canary"), ("db-password", "canary"), ("dbx", "canary")];
        let remedy = format!("write data['{key}'] if that is meant, else correct the name");
        assert!(failure(template, data).contains(&remedy), "{template}");
    }
    assert!(failure("{{ x }}", &[]).contains("there are no keys"));
    assert!(failure("{{ data[password] }}", data).contains("there is no such key"));
    assert!(failure("{{ {'canary': 1}[password[1:]] }}", data).contains("no such item"));
    assert!(failure("{{ loop.index }}", data).contains("only within a for"));
    assert!(failure("{{ htpasswd }}", data).contains("htpasswd(user, password)"));
    let stands_in = "{{ nope | default('x') }}{{ data.nope | default('y') }}{{ '' | default('z', boolean=true) }}{% if nope is defined %}!{% endif %}";
    assert_eq!(rendered(stands_in, data), "xyz");
}

#[test]
fn a_key_that_is_not_text_can_be_named_but_not_used() {
    let render = |template: &str| bytes_and_text().render("t", template).map(|text| text.to_string());
    for template in [
        "{{ keystore }}",
        "{{ data['keystore'] }}",
        "{{ keystore | b64encode }}",
        "{{ 'x' ~ keystore }}",
        "{{ data | tojson }}",
        "{{ keystore | default('x') }}",
        "{% for k, v in data | items %}{{ v }}{% endfor %}",
        "{{ (data | items | first | last) == 1 }}",
        "{{ (data | items)[0] | join }}",
    ] {
        let message = render(template).unwrap_err().message;
        assert!(
            message.contains("the key keystore is not text") && message.contains("base64"),
            "{template}: {message}"
        );
    }
    assert_eq!(render("{% for name in data %}{{ name }} {% endfor %}{{ user }}").as_deref(), Ok("keystore user app"));
    assert_eq!(render("{{ 'keystore' in data }} {{ keystore is defined }}").as_deref(), Ok("true true"));
}

#[test]
fn what_the_language_has_not_is_refused_by_name() {
    for (template, said) in [
        ("{{ x | b64enc }}", r#"column 8: there is no filter "b64enc": the filters are b64decode, b64encode, "#),
        ("{{ x is even }}", r#"there is no test "even": the tests are defined, endingwith, eq, "#),
        ("{{ range(3) }}", r#"there is no function "range": the functions are dockerconfigjson, htpasswd"#),
        ("{{ b64encode(x) }}", "b64encode is a filter, used like {{ 'hello' | b64encode }}"),
        ("{{ x | htpasswd }}", "htpasswd is a function, used like"),
        ("{{ x.upper() }}", r#"there is no method "upper": use a filter"#),
        ("{{ 'x' * 1000000000 }}", "templates do not calculate"),
        ("{{ x ** 2 }}", ", line 1, column 4: there is no operator"),
        ("{{ ['a'] + ['b'] }}", "write ~ to join texts"),
        ("{{ ['a'] }}", "a list is no text: use join"),
        ("{{ {} ~ 'a' }}", "a map is no text"),
        ("{% for c in x %}{% endfor %}", "a loop goes over a list"),
        ("{% for a, b in [[1]] %}{% endfor %}", "this list does not have 2 items, one for each name"),
        ("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "cannot be recursive"),
        ("{% do x() %}", "there is no statement do: the statements are"),
        ("{% autoescape true %}{% endautoescape %}", "there is no statement autoescape"),
        ("{% include 'x' %}", "unknown statement include"),
        ("{% macro x() %}{% endmacro %}", "unknown statement macro"),
        ("{% set x.y = 1 %}", "only a name can be set"),
        ("{{ x | indent }}", "indent needs the argument width: it is used as indent(width, first=false)"),
        ("{{ x | indent(129) }}", "from 0 to 128"),
        ("{{ x | indent(-1) }}", "from 0 to 128"),
        ("{{ x | indent(1, 2, 3) }}", "no more than 2 arguments"),
        ("{{ x | indent(1, width=2) }}", "has its argument width twice"),
        ("{{ x | indent(1, frist=2) }}", "has no argument \"frist\""),
        ("{{ x | replace(*[1, 2]) }}", "cannot be spread"),
        ("{{ x | join }}", "join takes a list, not a text"),
        ("{{ [1] | upper }}", "upper takes a text, not a list"),
        ("{{ x < 1 }}", ", line 1, column 4: a text and a number have no order"),
        ("{{ x[0] }}", "only lists and maps have items"),
        ("{{ x[::2] }}", "has no step"),
        ("{{ 9223372036854775807 + 1 }}", "too large a number"),
        ("{{ [1e400] | tojson }}", ", line 1, column 5: this number is too large"),
        ("{{ x", ", line 1, column 4: the syntax is wrong: unexpected end of input"),
        ("{% if x %}", "the syntax is wrong"),
        ("{{ 'q }}", "the syntax is wrong: unexpected end of string"),
        ("{{ x | }}", "column 8: the syntax is wrong"),
        (
            "{{ .x }}",
            "unexpected `.`. Templates are in the language of Jinja, in which a value is written {{ password }}",
        ),
        ("{{ x.a }}", r#"there is no "a" in it: correct the name, take the text of JSON apart with fromjson first"#),
    ] {
        let message = failure(template, &[("x", "canary")]);
        assert!(message.contains(said), "{template}: {message}");
    }
}

#[test]
fn an_htpasswd_line_is_the_same_each_time_and_proves_the_password() {
    let line = |user, password, object| {
        let data = [("u", str::as_bytes(user)), ("p", str::as_bytes(password))];
        Renderer::new(data, object).render("t", "{{ htpasswd(u, p) }}").unwrap().to_string()
    };
    let one = line("ci", "correct horse", "shop/web");
    assert_eq!(one, line("ci", "correct horse", "shop/web"));
    let hash = one.strip_prefix("ci:").unwrap();
    assert!(hash.starts_with("$2y$10$") && hash.len() == 60, "{hash}");
    assert!(bcrypt::verify("correct horse", hash).unwrap() && !bcrypt::verify("wrong", hash).unwrap());
    let salt = |line: &str| line.split('$').nth(3).unwrap()[..22].to_owned();
    assert_eq!(salt(&one), salt(&line("ci", "another", "shop/web")), "the salt must not depend on the password");
    assert_ne!(salt(&one), salt(&line("cd", "correct horse", "shop/web")));
    assert_ne!(salt(&one), salt(&line("ci", "correct horse", "shop/api")));
}

#[test]
fn htpasswd_refuses_what_bcrypt_would_cut_and_too_many() {
    let long = "canary".repeat(13);
    assert!(failure("{{ htpasswd('u', p) }}", &[("p", &long)]).contains("more than 72 bytes"));
    assert_eq!(rendered("{{ htpasswd('u', p) | length }}", &[("p", &long[..72])]), "62");
    assert!(failure("{{ htpasswd('u', p) }}", &[("p", "canary\0")]).contains("a NUL"));
    assert!(failure("{{ htpasswd(p, 'x') }}", &[("p", "canary:")]).contains("colon"));
    let mut renderer = Renderer::new([], "");
    for _ in 0..2 {
        renderer.render("t", &"{{ htpasswd('u', 'p') }}".repeat(htpasswd::MAX_HASHES / 2)).unwrap();
    }
    let error = renderer.render("t", "{{ htpasswd('u', 'p') }}").unwrap_err();
    assert!(error.message.contains("more than 16 times"), "{error}");
}

/// Templates made to do harm; `big` is a text of 512 KiB, `same` is equal to it, `lines` has 4096 lines, `deep` is nested JSON.
fn harmful() -> Vec<(&'static str, String)> {
    let doubled = |start: &str, step: &str, end: &str| format!("{start}{}{end}", step.repeat(60));
    let loops = |levels: usize, body: &str| {
        let open = "{% for a in lines | lines %}".repeat(levels);
        format!("{open}{body}{}", "{% endfor %}".repeat(levels))
    };
    vec![
        ("loops in loops", loops(20, "")),
        ("loops with a condition", loops(20, "").replace(" %}{% for", " if a is defined %}{% for")),
        ("names over names", format!("{{% set q = 1 %}}{}", loops(60, "{% set b = q ~ q %}"))),
        ("doubling", doubled("{% set x = 'xy' %}", "{% set x = x ~ x %}", "")),
        ("doubling blocks", doubled("{% set x = 'xy' %}", "{% set x %}{{ x }}{{ x }}{% endset %}", "")),
        ("doubling by replacing", doubled("{% set x = 'aa' %}", "{% set x = x | replace('a', x) %}", "")),
        ("doubling by joining", doubled("{% set x = 'aa' %}", "{% set x = [x, x, x] | join(x) %}", "")),
        ("doubling by escapes", doubled("{% set x = '\\\\' %}", "{% set x = x | quote_properties | tojson %}", "")),
        ("quoting all", loops(3, "{% set x = big | quote_properties | upper | urlencode %}")),
        ("indenting", loops(3, "{% set x = lines | indent(128) | indent(128) %}")),
        ("encoding", doubled("{% set x = big %}", "{% set x = x | b64encode %}", "")),
        ("hashing", loops(3, "{% set x = big | sha256 %}")),
        ("comparing", loops(3, "{% set x = big == same %}")),
        ("ordering", loops(3, "{% set x = big < same %}")),
        ("searching", loops(3, "{% set x = 'nope' in big %}")),
        ("slicing", loops(3, "{% set x = big[-1:] %}")),
        ("trimming", loops(3, "{% set x = big | trim(big) %}")),
        ("splitting", loops(3, "{% set x = big | split('a') %}")),
        ("shared lists in JSON", doubled("{% set x = ['a'] %}", "{% set x = [x, x, x, x] %}", "{{ x | tojson }}")),
        (
            "shared lists compared",
            doubled(
                "{% set x = ['a'] %}{% set y = ['a'] %}",
                "{% set x = [x, x] %}{% set y = [y, y] %}",
                "{{ x == y }}",
            ),
        ),
        ("shared maps", doubled("{% set x = {} %}", "{% set x = {'a': x, 'b': x} %}", "{{ x | tojson }}")),
        ("nested JSON", loops(3, "{% set x = deep | fromjson %}")),
        ("parsing", "{% if nope %}{% endif %}".repeat(2700) + "{{ -1 }}" + &"{{a.b|c}}".repeat(80)),
    ]
}

#[test]
fn harmful_templates_end_soon() {
    let (big, lines) = ("a".repeat(512 * 1024), "a\n".repeat(4096));
    let (same, deep) = (big.clone(), format!("{}{}{}", "[".repeat(128), "1,".repeat(30_000) + "1", "]".repeat(128)));
    let data = [("big", &big), ("same", &same), ("lines", &lines), ("deep", &deep)];
    for (name, template) in harmful() {
        let began = Instant::now();
        let mut renderer = Renderer::new(data.map(|(key, text)| (key, text.as_bytes())), "");
        let error = renderer.render("the template of key k", &template).expect_err(name);
        let spent = renderer.session.budget.left() == 0 && error.message.contains("does too much");
        assert!(spent || error.message.contains("nope"), "{name}: {error}");
        println!("{name}: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(30), "{name} took {:?}", began.elapsed());
        // What is left is nothing, also for those that come later.
        assert!(!spent || renderer.render("t", "{{ 'a' }}").is_err(), "{name}");
    }
}

#[test]
fn templates_nested_without_end_are_refused_before_they_use_up_the_stack() {
    for (template, said) in [
        (format!("{{{{ {}1 }}}}", "-".repeat(60_000)), "more than 400 words"),
        (format!("{{{{ {}1 }}}}", "not ".repeat(15_000)), "more than 400 words"),
        (format!("{{{{ a{} }}}}", ".a".repeat(30_000)), "more than 400 words"),
        (format!("{{{{ a{} }}}}", "|a".repeat(30_000)), "more than 400 words"),
        (format!("{{{{ a{} }}}}", "~a".repeat(30_000)), "more than 400 words"),
        (format!("{{{{ a{} }}}}", " if a else a".repeat(5000)), "more than 400 words"),
        (format!("{{% set {}", "(".repeat(60_000)), "more than 400 words"),
        (format!("{{{{ {}", "[".repeat(60_000)), "more than 400 words"),
        (format!("{{% if a %}}{}{{% endif %}}", "{%elif a%}".repeat(6000)), "more than 50 elif"),
        ("{%if 1%}".repeat(8000), "recursion"),
        ("{%filter a%}".repeat(5000), "recursion"),
        ("x".repeat(65_537), "65537 bytes, and 65536 is the most"),
    ] {
        assert!(failure(&template, &[]).contains(said), "{said}");
    }
}

#[test]
fn templates_as_nested_as_they_can_be_fit_the_stack() {
    // In the stack of a test's thread, which is as large as that of one of the runtime's threads.
    let blocks = "{%if 1%}".repeat(140);
    for expression in [
        format!("{}1", "-".repeat(398)),
        format!("{}1", "not ".repeat(398)),
        format!("1{}", ".a".repeat(199)),
        format!("1{}", "|upper".repeat(199)),
        format!("'a'{}", "~'a'".repeat(199)),
        format!("1{}", " if 0 else 1".repeat(99)),
        format!("{}1{}", "[".repeat(140), "]".repeat(140)),
        format!("{}1{}", "(".repeat(70), ")".repeat(70)),
        format!("1{}", " if 1".repeat(199)),
    ] {
        for before in ["", "{%if 0%}", &blocks] {
            let _ = try_render(&format!("{before}{{{{ {expression} }}}}{}", "{%endif%}".repeat(before.len() / 8)), &[]);
        }
    }
    let elifs = format!("{{% if 0 %}}{}{{{{ {}1 }}}}{{% endif %}}", "{%elif 0%}".repeat(50), "-".repeat(390));
    assert_eq!(rendered(&elifs, &[]), "");
    let deepest =
        format!("{}{}x{}{}", blocks, "{%filter upper%}".repeat(9), "{%endfilter%}".repeat(9), "{%endif%}".repeat(140));
    assert_eq!(rendered(&deepest, &[]), "X");
    assert!(failure(&format!("{{{{ 'a'{} }}}}", "~'a'".repeat(120)), &[]).contains("nested more than 100 deep"));
    assert_eq!(rendered(&format!("{{{{ 'a'{} }}}}", "~'a'".repeat(98)), &[]).len(), 99);
}

#[test]
fn results_are_as_large_as_a_secret_together_and_no_larger() {
    let half = "x".repeat(512 * 1024);
    let mut renderer = Renderer::new([("half", half.as_bytes())], "");
    for _ in 0..2 {
        assert_eq!(renderer.render("t", "{{ half }}").unwrap().len(), half.len());
    }
    let error = renderer.render("the template of key last", "\n{{ 'x' }}").unwrap_err();
    assert_eq!(error.kind, TemplateErrorKind::TooLarge);
    let said = "the template of key last, line 1, column 1: what it makes, with what the templates before it made, has more than \
                1048576 bytes";
    assert!(error.message.starts_with(said), "{error}");
    let error = try_render(&"{{ half }}".repeat(20), &[("half", &half)]).unwrap_err();
    assert_eq!(error.kind, TemplateErrorKind::TooLarge, "{error}");
}

#[test]
fn a_secret_as_large_as_can_be_is_rendered() {
    let (large, many) = ("é\"".repeat(340_000), "line of a file\n".repeat(3000));
    assert_eq!(rendered("{{ x }}", &[("x", &large)]), large);
    assert_eq!(rendered("{{ x | b64encode | b64decode == x }}", &[("x", &large[..300_000])]), "true");
    let numbered = rendered(
        "{% for line in x | lines %}{{ loop.index }}: {{ line | upper | trim }}\n{% endfor %}",
        &[("x", &many)],
    );
    assert!(numbered.ends_with("3000: LINE OF A FILE\n"));
    assert!(
        rendered("{{ x | fromjson | tojson }}", &[("x", &format!("[{}1]", "\"a\",".repeat(30_000)))]).len() > 120_000
    );
}
