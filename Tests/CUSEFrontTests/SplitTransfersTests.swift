// SPDX-License-Identifier: Apache-2.0

import FrontEnd
import Glibc
import Host
import SystemPackage
import Testing
import UAPI

@testable import CUSEFront

@Suite("Reads and writes that FUSE splits")
struct SplitTransfersTests {
  private let calls = SplitTransfers()

  private func answer(
    _ count: Int, by thread: Int32 = 7, after start: Int, of length: Int, done: Int
  ) throws -> Int {
    let transfer = try Transfer(address: 0x1000, count: UInt64(length))
    return try calls.answer(to: thread, count, after: start) { (transfer, done) }.count
  }

  @Test func theDeviceRunsAtTheFirstMessageOnly() throws {
    #expect(try answer(100, after: 0, of: 250, done: 220) == 100)
    // A second run would return 0.
    #expect(try answer(100, after: 100, of: 250, done: 0) == 100)
    #expect(try answer(50, after: 200, of: 250, done: 0) == 20)
    #expect(throws: Errno.ioError) { try answer(50, after: 220, of: 250, done: 0) }
  }

  @Test func theErrorOfTheDeviceIsTheErrorOfTheCall() throws {
    #expect(throws: Errno.badAddress) {
      try calls.answer(to: 7, 100, after: 0) { () throws(Errno) in throw .badAddress }
    }
    #expect(throws: Errno.ioError) { try answer(100, after: 100, of: 250, done: 200) }
  }

  @Test func theCallEndsWithItsLastByte() throws {
    #expect(try answer(100, after: 0, of: 200, done: 200) == 100)
    #expect(try answer(100, after: 100, of: 200, done: 0) == 100)
    #expect(throws: Errno.ioError) { try answer(100, after: 200, of: 200, done: 0) }
  }

  @Test func aCallThatStopsBetweenMessagesEndsWithAnEmptyAnswer() throws {
    #expect(try answer(100, after: 0, of: 250, done: 100) == 100)
    #expect(try answer(100, after: 100, of: 250, done: 0) == 0)
  }

  @Test func callsOfThreadsAreIndependent() throws {
    #expect(try answer(100, by: 1, after: 0, of: 300, done: 150) == 100)
    #expect(try answer(100, by: 2, after: 0, of: 300, done: 300) == 100)
    #expect(try answer(100, by: 1, after: 100, of: 300, done: 0) == 50)
    #expect(try answer(100, by: 2, after: 100, of: 300, done: 0) == 100)
    // A new call of a thread replaces the rest of the call before.
    #expect(try answer(100, by: 2, after: 0, of: 300, done: 40) == 40)
  }

  @Test func theNumberOfUnfinishedCallsIsLimited() throws {
    for thread in 0..<10_000 as Range<Int32> {
      #expect(try answer(1, by: thread, after: 0, of: 2, done: 2) == 1)
    }
    #expect(throws: Errno.ioError) { try answer(1, by: 0, after: 1, of: 2, done: 2) }
    #expect(try answer(1, by: 9_999, after: 1, of: 2, done: 2) == 1)
  }

  @Test(arguments: 0...9)
  func bytesAreGatheredFromThePieces(start: Int) throws {
    let bytes = Array(UInt8(0)..<32)
    try bytes.withUnsafeBytes { memory in
      let base = UInt64(UInt(bitPattern: memory.baseAddress))
      let vector = [base + 4, 3, base + 20, 5, base, 2]
      let transfer = try vector.withUnsafeBytes { words in
        try Transfer(
          vector: UInt64(UInt(bitPattern: words.baseAddress)), count: 3, wordSize: 8,
          in: CallerMemory(task: HostTask(id: getpid())))
      }
      var gathered = [UInt8](repeating: 99, count: 10 - start)
      try gathered.withUnsafeMutableBytes {
        try transfer.gather(
          after: start, into: $0, from: CallerMemory(task: HostTask(id: getpid())))
      }
      #expect(gathered == Array([4, 5, 6, 20, 21, 22, 23, 24, 0, 1][start...]))
    }
  }
}
