//! Random specs: those that people could write, of few names so that they meet, and any at all.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value as Tree, json};

use crate::api::{OkmsSecret, OkmsSecretSpec};

/// A spec that the API server would take.
pub(super) fn spec() -> impl Strategy<Value = OkmsSecret> {
    let sources = prop_oneof![
        1 => source().prop_map(|mut source| {
            source.remove("optional");
            source
        }),
        3 => vec(source(), 1..5).prop_map(|sources| fields([("sources", Some(json!(sources)))])),
    ];
    let conflict = select(vec![None, Some("Error"), Some("LastWins"), Some("LastWins")]);
    (sources, conflict, option::of(target())).prop_map(|(mut spec, conflict, target)| {
        spec.extend(fields([("onKeyConflict", conflict.map(Tree::from)), ("target", target)]));
        object(serde_json::from_value(Tree::Object(spec)).unwrap())
    })
}

pub(super) fn object(spec: OkmsSecretSpec) -> OkmsSecret {
    OkmsSecret::new(super::OWNER, spec)
}

/// Those of the fields that are there.
fn fields<const N: usize>(all: [(&str, Option<Tree>); N]) -> Map<String, Tree> {
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn source() -> impl Strategy<Value = Map<String, Tree>> {
    let path = select(vec!["a", "a", "b", "c/d"]);
    let version = select(vec![None, None, Some(1), Some(2)]);
    let keys = option::of(vec(key(), 1..4));
    let prefix = select(vec![None, None, Some("P_"), Some("")]);
    (path, version, keys, prefix, option::of(any::<bool>())).prop_map(|(path, version, keys, prefix, optional)| {
        fields([
            ("path", Some(json!(path))),
            ("version", version.map(Tree::from)),
            ("keys", keys.map(Tree::from)),
            ("prefix", prefix.map(Tree::from)),
            ("optional", optional.map(Tree::from)),
        ])
    })
}

fn key() -> impl Strategy<Value = Tree> {
    let from = select(vec![None, Some("v"), Some("v"), Some("w"), Some("/deep/er"), Some("none")]);
    let decode = select(vec![None, None, None, Some("Base64"), Some("Auto")]);
    (select(vec!["v", "w", "K", "tls.crt"]), from, decode, option::of(any::<bool>())).prop_map(
        |(to, from, decode, optional)| {
            let decode = decode.filter(|_| from.is_some());
            Tree::Object(fields([
                ("to", Some(json!(to))),
                ("from", from.map(Tree::from)),
                ("decode", decode.map(Tree::from)),
                ("optional", optional.map(Tree::from)),
            ]))
        },
    )
}

fn target() -> impl Strategy<Value = Tree> {
    let policy = select(vec![None, Some("Owner"), Some("Orphan"), Some("Merge"), Some("Merge")]);
    let type_ = select(vec![None, None, None, Some("Opaque"), Some("example.com/x"), Some("kubernetes.io/basic-auth")]);
    let immutable = select(vec![None, None, Some(true), Some(false)]);
    let texts = || option::of(select(vec![json!({}), json!({"team": "shop"}), json!({"team": "x", "mine": "y"})]));
    (policy, type_, immutable, texts(), texts(), option::of(template())).prop_map(
        |(policy, type_, immutable, labels, annotations, template)| {
            // What the rules of the CRD say of a Secret of somebody else.
            let merges = policy == Some("Merge");
            let template = template.map(|mut template| {
                if let Some(metadata) = template.get_mut("metadata").and_then(Tree::as_object_mut).filter(|_| merges) {
                    metadata.remove("labels");
                }
                template
            });
            Tree::Object(fields([
                ("creationPolicy", policy.map(Tree::from)),
                ("type", type_.map(Tree::from).filter(|_| !merges)),
                ("immutable", immutable.map(Tree::from).filter(|_| !merges)),
                ("labels", labels.filter(|_| !merges)),
                ("annotations", annotations),
                ("template", template),
            ]))
        },
    )
}

fn template() -> impl Strategy<Value = Tree> {
    let text = || select(vec!["fixed", "{{ v }}", "{{ v | default('none') }}", "{{ data | length }}", "{{ nope }}"]);
    let data = option::of(vec((select(vec!["v", "made"]), text()), 1..3));
    let word = || option::of(select(vec!["word", "{{ data | length }}", "{{ v }}"]));
    let mode = select(vec![None, Some("Replace"), Some("Merge")]);
    (data, mode, word(), word()).prop_map(|(data, mode, label, annotation)| {
        let data =
            data.map(|data| data.into_iter().map(|(key, text)| (key.to_owned(), json!(text))).collect::<Map<_, _>>());
        let metadata = fields([
            ("labels", label.map(|text| json!({ "made": text }))),
            ("annotations", annotation.map(|text| json!({ "made": text }))),
        ]);
        let metadata = Some(Tree::Object(metadata));
        json!(fields([("data", data.map(Tree::Object)), ("mode", mode.map(Tree::from)), ("metadata", metadata)]))
    })
}

/// Any spec that the types can hold, also such as no API server would take.
pub(super) fn any_spec() -> impl Strategy<Value = OkmsSecretSpec> {
    let text = || prop_oneof![any::<String>(), "[a-z./@-]{0,8}", Just(".".repeat(300))];
    let texts = move || {
        vec((text(), text()), 0..3).prop_map(|all| json!(all.into_iter().collect::<std::collections::BTreeMap<_, _>>()))
    };
    let decode = select(vec![Some("Base64"), Some("Base64URL"), Some("Auto"), None]);
    let key = (text(), option::of(text()), decode, option::of(any::<bool>())).prop_map(
        |(to, from, decode, optional)| json!({"to": to, "from": from, "decode": decode, "optional": optional}),
    );
    let source = (option::of(text()), option::of(any::<i32>()), option::of(vec(key, 0..3)), option::of(text()));
    let source = (source, option::of(any::<bool>())).prop_map(|((path, version, keys, prefix), optional)| {
        json!({"path": path, "version": version, "keys": keys, "prefix": prefix, "optional": optional})
    });
    let maps = vec((text(), option::of(vec(text(), 0..2))), 0..2);
    let maps =
        maps.prop_map(|maps| maps.into_iter().map(|(name, keys)| json!({"configMap": {"name": name, "keys": keys}})));
    let template = (option::of(texts()), maps, option::of(texts()), option::of(texts())).prop_map(
        |(data, maps, labels, annotations)| {
            let metadata = json!({"labels": labels, "annotations": annotations});
            json!({"data": data, "templateFrom": maps.collect::<Vec<_>>(), "metadata": metadata})
        },
    );
    let policy = select(vec![None, Some("Owner"), Some("Orphan"), Some("Merge")]);
    let shape = (option::of(text()), option::of(text()), option::of(texts()), option::of(texts()));
    let target = (shape, policy, option::of(any::<bool>()), option::of(template)).prop_map(
        |((name, type_, labels, annotations), policy, immutable, template)| {
            json!({"name": name, "type": type_, "labels": labels, "annotations": annotations, "creationPolicy": policy,
                "immutable": immutable, "template": template})
        },
    );
    (source.clone(), option::of(vec(source, 0..4)), option::of(target)).prop_filter_map(
        "not even of these types",
        |(mut spec, sources, target)| {
            let own = spec.as_object_mut()?;
            own.remove("optional");
            let sources = sources.map(|all| all.into_iter().filter(|source| source["path"].is_string()).collect());
            own.insert("sources".into(), sources.map_or(Tree::Null, Tree::Array));
            own.insert("target".into(), target.unwrap_or(Tree::Null));
            serde_json::from_value(spec).ok()
        },
    )
}
