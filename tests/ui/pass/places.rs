//! Where tasks and flows may stand.

use orchestrator::prelude::*;

mod inner {
    use super::prelude::*;

    #[task]
    pub(super) async fn add(a: u32, b: u32) -> u32 {
        a + b
    }

    #[flow]
    pub(in super::super) fn sum(a: u32, b: u32) -> Node<u32> {
        add(a, b)
    }
}

mod prelude {
    pub(super) use orchestrator::prelude::*;
}

#[derive(Debug)]
struct Loader;

impl Loader {
    const TABLE: &str = "customers";

    /// Names the type in place of `Self`.
    #[task]
    async fn load(rows: u32) -> u32 {
        struct Local(u32);
        impl Local {
            const fn new(rows: u32) -> Self {
                Self(rows)
            }
        }
        Local::new(rows).0 + Loader::TABLE.len() as u32
    }

    #[flow]
    fn pipeline(rows: u32) -> Node<u32> {
        Loader::wired(&inner::add(Loader::load(rows), 1))
    }
}

impl Loader {
    fn wired(node: &Node<u32>) -> Node<u32> {
        node.clone()
    }
}

#[test]
fn places_compile() {
    #[task]
    async fn local(n: u32) -> u32 {
        const ONE: u32 = 1;
        n + ONE
    }

    #[flow]
    fn local_flow(n: u32) -> Node<u32> {
        #[task]
        async fn more_local(n: u32) -> u32 {
            n
        }
        let local = local(n);
        more_local(local)
    }

    assert_eq!(local_flow(1).name(), "local_flow");
    assert_eq!(Loader::pipeline(1).name(), "pipeline");
    assert_eq!(inner::sum(1, 2).name(), "sum");
    assert!(format!("{Loader:?}").starts_with('L'));
}
