//! The filters, tests and functions of templates: one table, from which templates are rendered, the documentation is made and every
//! example is a test.
//!
//! Next: [`text`], [`encode`], [`quote`], [`json`], [`pem`] and [`htpasswd`], which do what it says.

use super::{
    encode,
    functions::{Function, filter, function, lenient, test},
    htpasswd, json, pem, quote, text,
};

/// Name, help, example, result. Sorted by kind and name.
pub(super) static TABLE: &[Function] = &[
    filter(
        [
            "b64decode",
            "Decodes Base64 of the standard alphabet; padding may be missing, white space is ignored, and the result must be text.",
            "{{ 'aGVsbG8=' | b64decode }}",
            "hello",
        ],
        encode::b64decode,
    ),
    filter(
        [
            "b64encode",
            "Encodes as Base64 with the standard alphabet and padding.",
            "{{ 'hello' | b64encode }}",
            "aGVsbG8=",
        ],
        encode::b64encode,
    ),
    filter(
        [
            "b64urldecode",
            "Decodes Base64 of the alphabet for URLs; padding may be missing, white space is ignored, and the result must be text.",
            "{{ 'fn5-fj8_' | b64urldecode }}",
            "~~~~??",
        ],
        encode::b64urldecode,
    ),
    filter(
        [
            "b64urlencode",
            "Encodes as Base64 with the alphabet for URLs and with padding.",
            "{{ '~~~~??' | b64urlencode }}",
            "fn5-fj8_",
        ],
        encode::b64urlencode,
    ),
    lenient(filter(
        [
            "default(value='', boolean=false)",
            "Stands in for what does not exist, with `boolean=true` also for what is empty, zero, false or null.",
            "{{ port | default(5432) }}",
            "5432",
        ],
        text::default,
    )),
    filter(
        ["first", "The first item of a list, or the first character of a text.", "{{ ['a', 'b'] | first }}", "a"],
        text::first,
    ),
    filter(
        [
            "fromjson",
            "Reads JSON, to point into it; numbers print as they were written.",
            r#"{{ ('{"db": {"ports": [5432, 1.0]}}' | fromjson).db.ports[1] }}"#,
            "1.0",
        ],
        json::fromjson,
    ),
    filter(
        [
            "indent(width, first=false)",
            "Puts up to 128 spaces before each line that is not empty, but for the first line unless `first` is true.",
            r"{{ 'a\nb' | indent(2) }}",
            "a\n  b",
        ],
        text::indent,
    ),
    filter(
        [
            "items",
            "The pairs of name and value of a map, sorted by name.",
            "{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}",
            "a=1",
        ],
        text::items,
    ),
    filter(
        ["join(separator='')", "Joins the items of a list to one text.", "{{ ['a', 'b'] | join(', ') }}", "a, b"],
        text::join,
    ),
    filter(
        ["last", "The last item of a list, or the last character of a text.", "{{ ['a', 'b'] | last }}", "b"],
        text::last,
    ),
    filter(
        ["length", "How many items a list or a map has, or how many characters a text.", "{{ 'abc' | length }}", "3"],
        text::length,
    ),
    filter(
        ["lines", "The lines of a text as a list, without their ends.", r"{{ 'a\nb\n' | lines | join('+') }}", "a+b"],
        text::lines,
    ),
    filter(["lower", "All letters small.", "{{ 'Ab' | lower }}", "ab"], text::lower),
    filter(
        [
            "pem_blocks(label=none)",
            "The PEM blocks of a bundle as a list, all or those with a label such as `CERTIFICATE`; what is around them is dropped, and that there is none is an error.",
            r"{{ 'x\n-----BEGIN A-----\nAAAA\n-----END A-----' | pem_blocks('A') | first }}",
            "-----BEGIN A-----\nAAAA\n-----END A-----\n",
        ],
        pem::pem_blocks,
    ),
    filter(
        [
            "pem_chain",
            "One text of a list of PEM texts, in their order, each block with one line break at its end.",
            r"{{ ['-----BEGIN A-----\nAAAA\n-----END A-----', '-----BEGIN B-----\nBBBB\n-----END B-----\n\n'] | pem_chain }}",
            "-----BEGIN A-----\nAAAA\n-----END A-----\n-----BEGIN B-----\nBBBB\n-----END B-----\n",
        ],
        pem::pem_chain,
    ),
    filter(
        [
            "quote_dotenv",
            r#"Quotes a value of a .env file with `"`, so that a `$` or a line break in it stays what it is."#,
            r#"PASSWORD={{ 'a"$b' | quote_dotenv }}"#,
            r#"PASSWORD="a\"\$b""#,
        ],
        quote::quote_dotenv,
    ),
    filter(
        [
            "quote_properties",
            "Escapes a value of a Java .properties file.",
            "password={{ 'a:b\\\\é' | quote_properties }}",
            r"password=a\:b\\\u00E9",
        ],
        quote::quote_properties,
    ),
    filter(
        [
            "quote_shell",
            "Quotes a word for a POSIX shell with `'`.",
            r#"echo {{ "it's" | quote_shell }}"#,
            r"echo 'it'\''s'",
        ],
        quote::quote_shell,
    ),
    filter(
        [
            "quote_yaml",
            r#"Quotes a text for YAML with `"`."#,
            r#"password: {{ 'a: "b"' | quote_yaml }}"#,
            r#"password: "a: \"b\"""#,
        ],
        quote::quote_yaml,
    ),
    filter(
        [
            "replace(old, new)",
            "Puts another text for each place where one is found.",
            "{{ 'a.b' | replace('.', '-') }}",
            "a-b",
        ],
        text::replace,
    ),
    filter(
        [
            "sha256",
            "The SHA-256 of a text in hexadecimal.",
            "{{ 'a' | sha256 }}",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ],
        encode::sha256,
    ),
    filter(
        [
            "split(separator=none)",
            "The parts between the separators as a list; without one, those between white space.",
            "{{ 'a:b' | split(':') | last }}",
            "b",
        ],
        text::split,
    ),
    filter(
        [
            "tojson",
            "Writes JSON, compact and sorted by name.",
            "{{ {'b': [1, true], 'a': 'x'} | tojson }}",
            r#"{"a":"x","b":[1,true]}"#,
        ],
        json::tojson,
    ),
    filter(
        ["trim(characters=none)", "Takes white space, or these characters, off both ends.", "{{ ' a ' | trim }}", "a"],
        text::trim,
    ),
    filter(["upper", "All letters capital.", "{{ 'Ab' | upper }}", "AB"], text::upper),
    filter(
        [
            "urlencode",
            "Percent-encodes all but letters, digits and `-._~`, as a user or password in a URL needs it.",
            "postgres://app:{{ 'p@ss/word' | urlencode }}@db",
            "postgres://app:p%40ss%2Fword@db",
        ],
        encode::urlencode,
    ),
    lenient(test(
        ["defined", "Whether it exists.", "{% if port is defined %}yes{% else %}no{% endif %}", "no"],
        text::is_defined,
    )),
    test(
        [
            "endingwith(suffix)",
            "Whether a text ends so.",
            "{% if 'a.crt' is endingwith('.crt') %}yes{% endif %}",
            "yes",
        ],
        text::is_endingwith,
    ),
    test(["eq(other)", "Whether both are the same.", "{% if 'a' is eq('a') %}yes{% endif %}", "yes"], text::is_eq),
    test(
        [
            "in(other)",
            "Whether it is in a text, an item of a list or a name of a map.",
            "{% if 'a' is in(['a', 'b']) %}yes{% endif %}",
            "yes",
        ],
        text::is_in,
    ),
    test(["none", "Whether it is null.", "{% if ('null' | fromjson) is none %}yes{% endif %}", "yes"], text::is_none),
    test(
        [
            "startingwith(prefix)",
            "Whether a text begins so.",
            "{% if 'ab' is startingwith('a') %}yes{% endif %}",
            "yes",
        ],
        text::is_startingwith,
    ),
    lenient(test(
        ["undefined", "Whether it does not exist.", "{% if port is undefined %}no{% endif %}", "no"],
        text::is_undefined,
    )),
    function(
        [
            "dockerconfigjson(server, username, password, email=none)",
            "The content of a Secret of type kubernetes.io/dockerconfigjson for one registry.",
            "{{ dockerconfigjson('r.example.com', 'ci', 'pw') }}",
            r#"{"auths":{"r.example.com":{"auth":"Y2k6cHc=","password":"pw","username":"ci"}}}"#,
        ],
        json::dockerconfigjson,
    ),
    function(
        [
            "htpasswd(user, password)",
            "A line of an htpasswd file with bcrypt. Its salt is made of the object and the user, never of the password, so that the line stays the same while the password does.",
            "{{ htpasswd('ci', 'pw') }}",
            htpasswd::EXAMPLE,
        ],
        htpasswd::htpasswd,
    ),
];
