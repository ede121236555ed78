//! Named places where tests make the process die: between an effect, its commit and what follows. They are there with the
//! feature `failpoints` alone.

/// The process has come to a place.
pub(crate) fn hit(name: &'static str) {
    // tests give the places their callbacks: nothing is returned through them
    let _ = fail::eval(name, |_| ());
}
