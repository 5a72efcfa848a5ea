import Testing

@testable import iommufdctl

/// Scripts that need no device node.
@Suite struct ScriptTests {
  private func run(_ lines: String...) throws {
    var runner = ScriptRunner(
      session: Session(descriptor: nil, node: "/nonexistent/iommu"), quiet: true, json: false)
    for line in lines { try runner.run(line) }
  }

  @Test("a line of a script can name its result and use fields of earlier results")
  func namesAndFields() throws {
    try run(
      "# nothing but a comment", "", "$buf = buffer --size 8K --fill 0x42 --shared",
      "buffer-check $buf --length 8K --holds 0x42",
      "buffer-fill $buf --offset 4K --length 1 --with 7",
      "$part = buffer-dump $buf --offset 4095 --length 3", "equal $part 420742",
      "equal $part.data 420742", "close $buf.fd",
      // No other test can have this descriptor number.
      "fails EBADF close 2147483647")
  }

  @Test("quotes keep blanks in one argument")
  func quotesKeepBlanks() throws {
    try run("equal 'a b' \"a b\"  # the same")
    #expect(throws: Failure.self) { try run("equal 'a b") }
  }

  @Test(
    "a script ends at the first line that fails",
    arguments: [
      "equal 1 2", "buffer-check $buf --length 4K --holds 1", "equal $none 1", "equal $buf.none 1",
      "buffer-dump $buf --offset 4K --length 1", "buffer-dump 0x1000 --length 1",
      "fails EINVAL buffer --size 1", "no-such-command",
      "fails EBADF open /nonexistent", "ioas-alloc", "script",
    ])
  func firstFailingLine(_ line: String) throws {
    let setUp = "$buf = buffer --size 4K"
    try run(setUp, "fails ENOENT open /nonexistent")
    #expect(throws: Failure.self) { try run(setUp, line) }
  }
}
