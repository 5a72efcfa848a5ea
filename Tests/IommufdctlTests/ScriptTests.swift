// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import iommufdctl

@Suite("Scripts without an iommufd: buffers, names and expectations") struct ScriptTests {
  private func run(_ lines: String...) throws {
    var runner = ScriptRunner(
      session: ScriptSession(descriptor: nil, node: "/nonexistent/iommu"), quiet: true, json: false)
    for line in lines { try runner.run(line) }
  }

  @Test("A name stands for the first value of a report, and name.field for a certain value")
  func namesAndFields() throws {
    try run(
      "# nothing but a comment", "", "$buf = buffer --size 8K --fill 0x42 --shared",
      "buffer-check $buf --length 8K --holds 0x42",
      "buffer-fill $buf --offset 4K --length 1 --with 7",
      "$part = buffer-dump $buf --offset 4095 --length 3", "equal $part 420742",
      "equal $part.data 420742", "close $buf.fd",
      // No concurrent test can have this descriptor.
      "fails EBADF close 2147483647")
  }

  @Test("Quotes keep the blanks of a word, and must be closed")
  func quotes() throws {
    try run("equal 'a b' \"a b\"  # the same")
    #expect(throws: Failure.self) { try run("equal 'a b") }
  }

  @Test(
    "A script ends at a line that is wrong, fails, or does not meet its expectation",
    arguments: [
      "equal 1 2", "buffer-check $buf --length 4K --holds 1", "equal $none 1", "equal $buf.none 1",
      "buffer-dump $buf --offset 4K --length 1", "buffer-dump 0x1000 --length 1",
      "fails EINVAL buffer --size 1", "no-such-command",
      "fails EBADF open /nonexistent", "ioas-alloc", "script",
    ])
  func endsAt(_ line: String) throws {
    let setUp = "$buf = buffer --size 4K"
    try run(setUp, "fails ENOENT open /nonexistent")
    #expect(throws: Failure.self) { try run(setUp, line) }
  }
}
