// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import iommufdctl

@Suite("Numbers on the command line") struct NumberTests {
  @Test(
    "A number is decimal, decimal with a suffix, hexadecimal, or max",
    arguments: [
      ("0", 0), ("4096", 4096), ("0x1000", 0x1000), ("4K", 4096), ("2M", 2 << 20), ("1G", 1 << 30),
      ("1T", 1 << 40), ("max", UInt64.max), ("0xffffffffffffffff", UInt64.max),
      ("18014398509481983K", 18_014_398_509_481_983 << 10),
    ] as [(String, UInt64)])
  func parses(_ text: String, _ value: UInt64) {
    #expect(Number(argument: text)?.value == value)
  }

  @Test(
    "Anything else, and a number of more than 64 bits, is refused",
    arguments: ["", "K", "-1", "0x", "0xg", "4k", "4 K", "18014398509481984K", "1.5M"])
  func refuses(_ text: String) {
    #expect(Number(argument: text) == nil)
  }

  @Test("A word has 32 bits")
  func words() {
    #expect(Word(argument: "0xffffffff")?.value == .max)
    #expect(Word(argument: "0x100000000") == nil)
  }

  @Test("Bytes are in memory order, two digits each")
  func bytes() {
    #expect(HexBytes(argument: "0102_ff:00")?.bytes == [1, 2, 0xff, 0])
    #expect(HexBytes(argument: "123") == nil)
    #expect(HexBytes(argument: "zz") == nil)
  }
}
