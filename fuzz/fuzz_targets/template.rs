//! Any template over any keys: it ends, in bounded time, memory and stack, always the same, and no error holds a value.
//!
//! An input is a template and pairs of a key and its value, with a NUL between them. A value has the canary where it says `@`, or
//! else before it; that of a key which ends in a digit n is repeated 2^n times. A template that begins with `#!` is made from the
//! bytes behind that, by [`grammar`].

#![no_main]

use std::{alloc::System, collections::BTreeMap};

use cap::Cap;
use libfuzzer_sys::{Corpus, fuzz_target};
use okms_operator::plan::{MAX_DATA_SIZE, Renderer, SecretKey, TemplateError, template_functions};
use okms_operator_fuzz::{CANARY, assert_silent, grammar, leaks, planted};
use rustix::{
    process::{Resource, Rlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde_json::value::RawValue;

/// What rendering may take besides what it is given. The engine promises 64 MiB.
const MEMORY: usize = 64 * 1024 * 1024;

/// The stack of a thread of the operator's runtime.
const STACK: u64 = 2 * 1024 * 1024;

/// For a template, in seconds of the processor; and with sixteen passwords to hash, in code that is slowed down for the fuzzer.
const TIME: f64 = 1.0;
const TIME_TO_HASH: f64 = 10.0;

#[global_allocator]
static MEMORY_USED: Cap<System> = Cap::new(System, usize::MAX);

fuzz_target!(
    init: {
        let dictionary = include_str!("../dictionaries/template.dict");
        for doc in template_functions() {
            let line = format!("\"{}\"", doc.name());
            assert!(dictionary.lines().any(|other| other == line), "dictionaries/template.dict has no {line}");
        }
        setrlimit(Resource::Stack, Rlimit { current: Some(STACK), maximum: None }).expect("the stack can be smaller");
    },
    |input: &[u8]| -> Corpus {
        let Some((template, keys)) = parse(input) else { return Corpus::Reject };
        let one = render(&template, &keys);
        assert!(one == render(&template, &keys), "the same template made something else");
        let mut size = 0;
        for made in one {
            match made {
                Ok(text) => size += text.len(),
                Err(error) => {
                    assert_silent(&error, &error.message);
                    let named = error.message.starts_with("t, line ") || error.message.starts_with("t: ");
                    assert!(named && error.message.len() < 1200, "{error}");
                }
            }
        }
        assert!(size <= MAX_DATA_SIZE, "{size} bytes");
        check_json(&template, &keys);
        Corpus::Keep
    }
);

/// A template and its keys; `None` where the canary is in a text that errors may show.
fn parse(input: &[u8]) -> Option<(String, BTreeMap<String, Vec<u8>>)> {
    let mut parts = input.split(|byte| *byte == 0);
    let template = parts.next()?;
    let (mut keys, mut size) = (BTreeMap::new(), 0);
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse::<SecretKey>().ok());
        let Some(name) = name.map(String::from) else { continue };
        let mut value = planted(value);
        if !leaks(&value) {
            value.splice(..0, CANARY.bytes());
        }
        let times = name.chars().next_back().and_then(|last| last.to_digit(10)).unwrap_or(0);
        let value = value.repeat(1 << times);
        size += value.len();
        if size > MAX_DATA_SIZE {
            break;
        }
        keys.insert(name, value);
    }
    let template = match template.strip_prefix(b"#!") {
        Some(bytes) => grammar::template(bytes, &keys.keys().map(String::as_str).collect::<Vec<_>>()),
        None => String::from_utf8_lossy(template).into_owned(),
    };
    let shown = keys.keys().chain([&template]);
    let clean = shown.map(String::as_bytes).all(|text| !leaks(text));
    clean.then_some((template, keys))
}

/// What one expression gives is JSON by `tojson`, and the same when it is read and written again.
fn check_json(template: &str, keys: &BTreeMap<String, Vec<u8>>) {
    let expression = template.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
    let Some(expression) = expression.filter(|text| !text.contains(['{', '}', '%'])) else { return };
    let mut renderer = renderer(keys);
    let mut render = |rest: &str| renderer.render("t", &format!("{{% set it = {expression} %}}{{{{ {rest} }}}}"));
    let Ok(json) = render("it | tojson") else { return };
    assert!(serde_json::from_str::<&RawValue>(&json).is_ok(), "{expression}: this is no JSON: {}", *json);
    match render("it | tojson | fromjson | tojson") {
        Ok(again) => assert_eq!(*json, *again, "{expression}"),
        Err(error) => assert!(error.message.contains("too much") || error.message.contains("more than"), "{error}"),
    }
}

/// Twice with one renderer: the second time has what the first left of the budget.
fn render(template: &str, keys: &BTreeMap<String, Vec<u8>>) -> [Result<String, TemplateError>; 2] {
    let time = if template.contains("htpasswd") { TIME_TO_HASH } else { TIME };
    // What goes beyond ends the process.
    MEMORY_USED.set_limit(MEMORY_USED.allocated() + MEMORY).expect("more than there is now");
    let began = now();
    let mut renderer = renderer(keys);
    let made = [0, 1].map(|_| renderer.render("t", template).map(|text| text.to_string()));
    drop(renderer);
    let took = now() - began;
    MEMORY_USED.set_limit(usize::MAX).expect("more than there is now");
    assert!(took < time, "it took {took} s");
    made
}

fn renderer(keys: &BTreeMap<String, Vec<u8>>) -> Renderer<'_> {
    Renderer::new(keys.iter().map(|(key, value)| (key.as_str(), value.as_slice())), "shop/web")
}

/// The time of the processor, so that what else runs on this machine counts for nothing.
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds and nanoseconds of a day")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}
