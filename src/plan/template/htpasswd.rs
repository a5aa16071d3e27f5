//! Lines of htpasswd files, with bcrypt.

use bcrypt::Version;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    budget::{BUDGET, Draft},
    functions::{Args, Session},
    problem::Problem,
    value::Value,
};

/// Two to the power of this many rounds, about 50 ms: what nginx, Traefik and the registry can still check with each request.
const COST: u32 = 10;

/// bcrypt itself would leave the rest out without a word.
const MAX_PASSWORD: usize = 72;

/// The most hashes for one Secret, about a second.
pub(super) const MAX_HASHES: usize = 16;

/// What one hash spends, so that the most of them leave half of the budget.
const UNITS: u64 = BUDGET / 32;

/// What the example of the documentation makes, for an object without a name.
pub(super) const EXAMPLE: &str = "ci:$2y$10$Tf9SZzkm1MBcLjjCIxyMnO8cv04WNHedM4lUK62r1J/DzzznK5lfe";

pub(super) fn htpasswd<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let (user, password) = (args.needed_text(0, budget)?, args.needed_text(1, budget)?);
    if user.is_empty() || user.contains([':', '\n', '\r', '\0']) {
        return Err(Problem::new(
            "the user of htpasswd is empty or has a colon, a line break or a NUL in it: take another",
        ));
    }
    if password.len() > MAX_PASSWORD || password.contains('\0') {
        return Err(Problem::new(format!(
            "the password of htpasswd has more than {MAX_PASSWORD} bytes or a NUL in it, which bcrypt cannot hash: take another"
        )));
    }
    if session.hashes >= MAX_HASHES {
        return Err(Problem::new(format!(
            "htpasswd is called more than {MAX_HASHES} times by the templates of one Secret: split it, or store hashes in OKMS"
        )));
    }
    session.hashes += 1;
    budget.spend(UNITS)?;
    let parts = bcrypt::hash_with_salt(password.as_bytes(), COST, salt(&session.salt, &user))
        .map_err(|_| Problem::new("bcrypt refuses this password: take another"))?;
    // A hash of a password is to be kept as well as the password.
    let hash = Zeroizing::new(parts.format_for_version(Version::TwoY));
    let mut line = Draft::new();
    for piece in [&*user, ":", &hash] {
        line.push(piece, budget)?;
    }
    Ok(Value::text(line))
}

/// The salt of a user of an object: the same each time, so that the Secret is not written again without a reason, and another for
/// every user and object, so that equal passwords do not show.
///
/// It must not depend on the password. The salt is in the line for everybody to read, and a fast hash of the password in it would let
/// who has the line try passwords a million times faster than bcrypt does.
fn salt(object: &str, user: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    // Neither part can hold a NUL, so that no two pairs are the same.
    for part in ["okms-operator htpasswd salt", object, user] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let (half, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}
