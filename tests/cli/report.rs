//! The page about a network.

use crate::support::Workplace;

#[test]
fn the_page_has_every_section_and_loads_nothing() {
    let place = Workplace::with_tiny_network();
    let said = place.ok(&[
        "report",
        "tiny.caffemodel",
        "--iterations",
        "3",
        "-o",
        "page.html",
    ]);
    assert!(said.contains("page.html: "), "{said}");
    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    for section in [
        "Where the time goes",
        "Time of each layer",
        "Roofline",
        "What pruning would gain",
        "Chosen kernels",
        "Network",
    ] {
        assert!(page.contains(&format!("<h2>{section}</h2>")), "{section}");
    }
    assert!(page.contains("<td>conv1<td>Convolution"));
    assert!(page.contains("GFLOP/s at"), "a circle of the roofline");
    let namespace = "http://www.w3.org/2000/svg";
    let rest = page.replace(namespace, "");
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!rest.contains(outside), "{outside}");
    }
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let place = Workplace::with_tiny_network();
    let outcome = place.skimjit(&[
        "report",
        "tiny.caffemodel",
        "--iterations",
        "1",
        "-o",
        "no/page.html",
    ]);
    assert_eq!(outcome.code, Some(3));
    assert!(
        outcome.stderr.contains("no/page.html"),
        "{}",
        outcome.stderr
    );
}
