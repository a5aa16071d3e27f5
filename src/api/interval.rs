//! Durations as people write them in a spec: `30s`, `1m`, `1h30m`, `0s`.
//!
//! kube's own `Duration` is not used: it takes fractions and signs, overflows with a panic, and writes `1m` back as `60s`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration of whole seconds, written like Go writes one: hours, minutes and seconds, each at most once and in this order.
///
/// Five digits at most for each unit, so that nothing can overflow, here or in a CEL expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(Duration);

/// The text is not an [`Interval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Interval::REMEDY)]
pub struct IntervalError;

impl Interval {
    /// What the API server checks; [`Interval::from_str`] takes exactly what this takes.
    pub(super) const RULE: &str = "self != '' && self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$')";
    const REMEDY: &str = "write a duration in hours, minutes and whole seconds, such as 30s, 1m, 1h30m or 0s";
    /// `99999h99999m99999s`.
    const MAX_LENGTH: usize = 18;

    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        if text.is_empty() {
            return Err(IntervalError);
        }
        let mut rest = text;
        let mut seconds = 0;
        for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
            if let Some((digits, after)) = rest.split_once(unit) {
                if !(1..=5).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                    return Err(IntervalError);
                }
                seconds += digits.parse::<u64>().map_err(|_| IntervalError)? * factor;
                rest = after;
            }
        }
        if rest.is_empty() { Ok(Self::from_secs(seconds)) } else { Err(IntervalError) }
    }
}

impl TryFrom<String> for Interval {
    type Error = IntervalError;
    fn try_from(text: String) -> Result<Self, IntervalError> {
        text.parse()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

/// Rounds up to whole seconds: an interval in force is never shown shorter than it is.
impl From<Duration> for Interval {
    fn from(duration: Duration) -> Self {
        Self::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
    }
}

/// The shortest form: `1h`, `1m30s`, `0s`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        for (count, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        if seconds == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

impl JsonSchema for Interval {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": Self::MAX_LENGTH,
            "x-kubernetes-validations": [{"rule": Self::RULE, "message": Self::REMEDY}],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("1m", 60), ("1h30m", 5400), ("90s", 90), ("2h5s", 7205)] {
            assert_eq!(text.parse(), Ok(Interval::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_go_or_people_might_also_write_is_refused() {
        for text in ["", "0", "1", "m", "1.5h", "-1s", "+1s", "500ms", "1m1h", "1s1s", "1 m", "1d", "100000s", "1e3s"] {
            assert_eq!(text.parse::<Interval>(), Err(IntervalError), "{text}");
        }
    }

    #[test]
    fn an_interval_is_shown_in_its_shortest_form() {
        for (seconds, text) in [(0, "0s"), (60, "1m"), (90, "1m30s"), (3600, "1h"), (3605, "1h5s")] {
            assert_eq!(Interval::from_secs(seconds).to_string(), text);
        }
        assert_eq!(Interval::from(Duration::from_millis(1500)).to_string(), "2s");
    }

    proptest! {
        #[test]
        fn what_was_shown_is_read_back(seconds in 0_u64..300_000_000) {
            let interval = Interval::from_secs(seconds);
            prop_assert_eq!(interval.to_string().parse(), Ok(interval));
        }

        #[test]
        fn whatever_the_api_server_takes_is_read(text in "([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?") {
            prop_assert_eq!(text.parse::<Interval>().is_ok(), !text.is_empty());
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Interval>();
        }
    }
}
