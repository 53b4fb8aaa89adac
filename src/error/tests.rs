use super::*;

#[test]
fn each_cause_is_in_the_line_once_and_without_a_backtrace() {
    let source = std::io::Error::other("the disk is full");
    let error = Error::Io { path: "a.txt".into(), source };
    assert_eq!(in_one_line(&error), "a.txt: the disk is full");
    let traced =
        candle_core::Error::Msg("no such tensor\n   0: tutti::main\n             at main.rs:1".into());
    assert_eq!(in_one_line(&Error::Tensor(traced)), "tensor: no such tensor");
}
