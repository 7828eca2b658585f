//! Pages made from tables are what the tables say.

use std::path::Path;

use weir_router_policies::docs;

#[test]
fn made_pages_are_up_to_date() {
    for (name, page) in [("features.md", docs::features()), ("unwrap.md", docs::unwrapping())] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
            std::fs::write(&file, &page).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(there == page, "docs/{name} is not what the tables say: run this test with WEIR_WRITE_DOCS=1");
    }
}
