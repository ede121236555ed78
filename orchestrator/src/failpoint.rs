//! Failure points: named places where tests kill the process, between an effect, its commit and the
//! next step. They exist only with the `failpoints` feature.

/// Triggers the failure point with this name.
pub(crate) fn hit(name: &'static str) {
    // tests set callbacks for the points, which do not return values
    let _ = fail::eval(name, |_| ());
}
