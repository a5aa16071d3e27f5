//! From the spec of an `OkmsSecret`, as people wrote it, to what is [`Wanted`], which cannot be wrong.
//!
//! The API server has refused most mistakes already; what is refused here is what its rules cannot see, or what rules of an older CRD
//! let through.

use super::{KeyPlan, KeyRule, Place, SecretKey, Selector, SourceSet, TargetShape, Wanted, WantedSource};
use crate::{
    api::{KeySpec, OkmsSecret, SourceSpec},
    model::{Source, Version},
};

/// Parses a spec. The error names the field and the remedy.
pub fn wanted(object: &OkmsSecret) -> Result<Wanted, String> {
    let spec = &object.spec;
    if spec.path.is_some() == spec.sources.is_some() {
        return Err("spec: give exactly one of path and sources".to_owned());
    }
    let place = |n| if spec.sources.is_some() { Place::Entry(n) } else { Place::Spec };
    let sources =
        spec.sources().iter().enumerate().map(|(n, spec)| source(place(n), spec)).collect::<Result<_, _>>()?;
    let target = spec.target.as_ref();
    let shape = TargetShape {
        name: object.target_name(),
        type_: object.target_type().parse().map_err(|error| format!("spec.target.type: {error}"))?,
        labels: target.and_then(|target| target.labels.clone()).unwrap_or_default(),
        annotations: target.and_then(|target| target.annotations.clone()).unwrap_or_default(),
        immutable: target.and_then(|target| target.immutable).unwrap_or(false),
        policy: target.and_then(|target| target.creation_policy).unwrap_or_default(),
    };
    Ok(Wanted {
        sources: SourceSet::from_list(sources).ok_or("spec.sources: name at least one source")?,
        on_key_conflict: spec.on_key_conflict.unwrap_or_default(),
        target: shape,
    })
}

fn source(place: Place, spec: &SourceSpec) -> Result<WantedSource, String> {
    let path = spec.path.parse().map_err(|error| format!("{place}.path: {error}"))?;
    let pin = match spec.version {
        None => None,
        Some(number) => {
            let version = u32::try_from(number).ok().and_then(|number| Version::try_from(number).ok());
            Some(version.ok_or_else(|| format!("{place}.version: a version is a number from 1 to 24000"))?)
        }
    };
    let prefix = spec.prefix.clone().unwrap_or_default();
    if !prefix.chars().all(SecretKey::allows) {
        return Err(format!("{place}.prefix: a prefix has only the characters a-z A-Z 0-9 - . _"));
    }
    let keys = match &spec.keys {
        None => KeyPlan::All,
        Some(keys) => KeyPlan::Selected(keys.iter().map(|key| rule(place, &prefix, key)).collect::<Result<_, _>>()?),
    };
    Ok(WantedSource { place, source: Source { path, pin }, keys, prefix, optional: spec.is_optional() })
}

fn rule(place: Place, prefix: &str, key: &KeySpec) -> Result<KeyRule, String> {
    let to = format!("{prefix}{}", key.to);
    Ok(KeyRule {
        to: to.parse().map_err(|error| format!("{place}.keys: {to:?}: {error}"))?,
        from: key.from.clone().map_or(Selector::Whole, Selector::Field),
        optional: key.is_optional(),
        decode: key.decode,
    })
}
