//! Attributes find their way.

use orchestrator::prelude::*;

/// Documented,
/// in two lines.
#[task]
#[doc(alias = "described")]
#[must_use]
pub(crate) async fn documented() -> u32 {
    1
}

#[cfg(any())]
#[task]
async fn absent(n: NoSuchType) -> u32 {
    1
}

#[task]
#[cfg(any())]
async fn absent_too(n: NoSuchType) -> u32 {
    1
}

#[task]
#[cfg_attr(all(), allow(unused_mut))]
#[expect(unused_variables)]
async fn allowed(mut n: u32, #[allow(clippy::needless_pass_by_value)] m: String) {}

#[task]
#[inline(never)]
#[deprecated = "an older one"]
fn deprecated() -> u32 {
    1
}

#[flow]
#[doc(hidden)]
#[allow(deprecated, clippy::let_and_return)]
fn flow() -> (Node<()>, Node<u32>) {
    let both = (allowed(1, "m").after(deprecated()), documented());
    both
}

#[test]
fn attributes_compile() {
    assert_eq!(flow().name(), "flow");
}
