// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Glibc
import Host
import SystemPackage
import Testing
import UAPI

@testable import CUSEFront

@Suite("What /proc/<tid>/syscall shows of a read or write")
struct BlockedCallTests {
  #if arch(x86_64)
    @Test(
      arguments: [
        ("17 0x3 0x7ffd0 0x4 0x70000000010 0x0 0x0 0x7ffc0 0x7f00\n", 0x700_0000_0010),
        ("18 0x3 0x7ffd0 0x4 0x10 0x0 0x0 0x7ffc0 0x7f00\n", 0x10),
        ("295 0x3 0x7ffd0 0x1 0x1000 0x0 0x0 0x7ffc0 0x7f00\n", 0x1000),
        ("327 0x3 0x7ffd0 0x1 0xffffffffffffffff 0x0 0x0 0x7ffc0 0x7f00\n", nil),
        ("328 0x3 0x7ffd0 0x1 0x8 0x0 0x0 0x7ffc0 0x7f00\n", 8),
        ("0 0x3 0x7ffd0 0x4 0x99 0x0 0x0 0x7ffc0 0x7f00\n", nil),
        ("1 0x3 0x7ffd0 0x4 0x99 0x0 0x0 0x7ffc0 0x7f00\n", nil),
        ("180 0x3 0x7ffd0 0x4 0x10 0x700 0x0 0x7ffc0 0x7f00\n", 0x700_0000_0010),
      ] as [(String, UInt64?)])
    func theOffsetIsRead(text: String, offset: UInt64?) throws {
      let call = try #require(BlockedCall(parsing: text.utf8)?.transfer)
      #expect(call.offset == offset)
    }

    @Test func ioUringIsNoTransfer() throws {
      let ring = "426 0x3 0x1 0x1 0x10 0x0 0x0 0x7ffc0 0x7f00\n"
      #expect(try #require(BlockedCall(parsing: ring.utf8)).transfer == nil)
    }

    @Test func theMemoryIsRead() throws {
      // MAP_32BIT: 32-bit registers must reach the page.
      let page = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x40, -1, 0)
      defer { munmap(page, 4096) }
      let pieces: [UInt64] = [0x1000, 3, 0x2000, 0, 0x3000, 5]
      pieces.withUnsafeBytes { page?.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
      let vector = String(UInt(bitPattern: page), radix: 16)
      let caller = CallerMemory(task: HostTask(id: getpid()))
      func transfer(_ text: String) throws -> Transfer {
        let call = BlockedCall(parsing: text.utf8)?.transfer
        return try #require(call).transfer(in: caller)
      }
      let one = try transfer("17 0x3 0x7ffd0 0x4 0x10 0x0 0x0 0x7ffc0 0x7f00\n")
      #expect(one == (try Transfer(address: 0x7ffd0, count: 4)))
      let three = try transfer("295 0x3 0x\(vector) 0x3 0x10 0x0 0x0 0x7ffc0 0x7f00\n")
      #expect(three.pieces.map(\.address) == [0x1000, 0x3000])
      #expect(three.pieces.map(\.count) == [3, 5])
      // Read as words of 32 bits, the same bytes are 0x1000 0, 3 0.
      let narrow = try transfer("145 0x3 0x\(vector) 0x2 0x0 0x0 0x0 0x7ffc0 0x7f00\n")
      #expect(narrow.pieces.isEmpty)
      #expect(throws: Errno.notSupported) {
        try transfer("327 0x3 0x\(vector) 0x3 0x10 0x0 0x2 0x7ffc0 0x7f00\n")
      }
      #expect(try transfer("327 0x3 0x\(vector) 0x3 0x10 0x0 0x1 0x7ffc0 0x7f00\n").count == 8)
    }

    @Test func aVectorOrAnotherLengthIsNotOneBuffer() throws {
      func isWhole(_ text: String) throws -> Bool {
        try #require(BlockedCall(parsing: text.utf8)?.transfer).isOneBuffer(of: 4)
      }
      #expect(try isWhole("17 0x3 0x7ffd0 0x4 0x10 0x0 0x0 0x7ffc0 0x7f00\n"))
      #expect(try !isWhole("17 0x3 0x7ffd0 0x5 0x10 0x0 0x0 0x7ffc0 0x7f00\n"))
      #expect(try !isWhole("19 0x3 0x7ffd0 0x4 0x10 0x0 0x0 0x7ffc0 0x7f00\n"))
    }
  #endif

  @Test(
    arguments: [
      "running\n", "-1 0x7ffc0 0x7f00\n", "", "17 0x3 zero 0 0 0 0 0 0\n",
      "1a 0x3 0 0 0 0 0 0 0\n", "17 0x3 0x0 0x0 0x0 0x0 0x0 0x0\n",
    ])
  func otherTextIsRefused(text: String) {
    #expect(BlockedCall(parsing: text.utf8) == nil)
  }

  @Test func registersAreParsed() {
    let text = "16 0x3 0x3b90 0x7ffd0 0x0 0xffffffffffffffff 0x0 0x7ffc0 0x7f0012\n"
    let call = BlockedCall(parsing: text.utf8)
    #expect(call?.number == 16)
    #expect(call?.arguments == [3, 0x3b90, 0x7ffd0, 0, .max, 0])
    #expect(call?.programCounter == 0x7f0012)
  }
}
