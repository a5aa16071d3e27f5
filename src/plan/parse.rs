//! From the spec of an `OkmsSecret`, as people wrote it, to what is [`Wanted`], which cannot be wrong.
//!
//! The API server has refused most mistakes already; what is refused here is what rules of an older CRD let through.

use super::{KeyPlan, KeyRule, Selector, TargetShape, Wanted, WantedSource};
use crate::{
    api::{KeySpec, OkmsSecret},
    model::{Path, Source, Version},
};

/// Parses a spec. The error names the field and the remedy.
pub fn wanted(object: &OkmsSecret) -> Result<Wanted, String> {
    let spec = &object.spec;
    let path: Path = spec.path.parse().map_err(|error| format!("spec.path: {error}"))?;
    let pin = match spec.version {
        None => None,
        Some(number) => {
            let version = u32::try_from(number).ok().and_then(|number| Version::try_from(number).ok());
            Some(version.ok_or("spec.version: a version is a number from 1 to 24000")?)
        }
    };
    let keys = match &spec.keys {
        None => KeyPlan::All,
        Some(keys) => KeyPlan::Selected(keys.iter().map(rule).collect::<Result<_, _>>()?),
    };
    let target = spec.target.as_ref();
    let shape = TargetShape {
        name: object.target_name(),
        type_: object.target_type().parse().map_err(|error| format!("spec.target.type: {error}"))?,
        labels: target.and_then(|target| target.labels.clone()).unwrap_or_default(),
        annotations: target.and_then(|target| target.annotations.clone()).unwrap_or_default(),
    };
    Ok(Wanted { sources: WantedSource { source: Source { path, pin }, keys }.into(), target: shape })
}

fn rule(key: &KeySpec) -> Result<KeyRule, String> {
    Ok(KeyRule {
        to: key.to.parse().map_err(|error| format!("spec.keys: {:?}: {error}", key.to))?,
        from: key.from.clone().map_or(Selector::Whole, Selector::Field),
        optional: key.is_optional(),
    })
}
