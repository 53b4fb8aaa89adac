use super::*;

#[test]
fn lines_are_found_by_number() {
    let mut lines = Lines::default();
    for line in ["one", "", "drei ü", "4"] {
        lines.push(line);
    }
    lines.shrink();
    assert_eq!(lines.len(), 4);
    let all: Vec<&str> = (0..5).map(|i| lines.get(i)).collect();
    assert_eq!(all, ["one", "", "drei ü", "4", ""]);
}
