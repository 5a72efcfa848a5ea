// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Testing
import UAPI

@testable import FrontEnd

@Suite("The memory of a read or write")
struct TransferTests {
  /// Memory that holds the words of a vector, from address 0 on.
  private struct Words: UserMemory {
    let bytes: [UInt8]

    init<Word: FixedWidthInteger>(_ words: [Word]) {
      bytes = words.flatMap { word in withUnsafeBytes(of: word) { Array($0) } }
    }

    func copyIn(
      from address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
      guard address <= bytes.count, buffer.count <= bytes.count - Int(address) else {
        throw .badAddress
      }
      buffer.copyBytes(from: bytes[Int(address)..<Int(address) + buffer.count])
    }

    func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
      throw .badAddress
    }
  }

  private func vector(_ words: [UInt64]) throws -> Transfer {
    try Transfer(
      vector: 0, count: UInt64(words.count / 2), wordSize: 8, in: Words(words))
  }

  @Test func oneBufferIsShortenedToTheKernelsMaximum() throws {
    #expect(try Transfer(address: 5, count: 7).pieces == [.init(address: 5, count: 7)])
    #expect(try Transfer(address: 5, count: 0).pieces == [.init(address: 5, count: 0)])
    #expect(try Transfer(address: 0, count: 1 << 40).count == 0x7fff_f000)
    #expect(throws: Errno.badAddress) { try Transfer(address: .max, count: 1) }
    #expect(throws: Errno.badAddress) { try Transfer(address: 1 << 63, count: 0) }
  }

  @Test func emptyPiecesAreKeptOnlyAtTheBeginning() throws {
    #expect(try vector([1, 0, 2, 0]).pieces == [])
    #expect(try vector([1, 0, 2, 5, 3, 0]).pieces.map(\.count) == [0, 5])
    #expect(try vector([1, 4, 2, 0, 3, 6]).pieces.map(\.address) == [1, 3])
  }

  @Test func vectorsOf32BitCallersHave32BitWords() throws {
    let words: [UInt32] = [0x1000, 3, 0xffff_f000, 4]
    let transfer = try Transfer(vector: 0, count: 2, wordSize: 4, in: Words(words))
    #expect(transfer.pieces.map(\.address) == [0x1000, 0xffff_f000])
    #expect(transfer.count == 7)
    #expect(throws: Errno.invalidArgument) {
      try Transfer(vector: 0, count: 1, wordSize: 4, in: Words([0, UInt32.max]))
    }
  }

  @Test func invalidVectorsAreRefused() {
    #expect(throws: Errno.invalidArgument) {
      try Transfer(vector: 0, count: 1025, wordSize: 8, in: Words([UInt64]()))
    }
    #expect(throws: Errno.badAddress) {
      try Transfer(vector: 0, count: 2, wordSize: 8, in: Words([UInt64(1), 2]))
    }
    #expect(throws: Errno.badAddress) {
      try Transfer(vector: .max - 8, count: 2, wordSize: 8, in: Words([UInt64]()))
    }
    #expect(throws: Errno.invalidArgument) { try vector([0, UInt64.max]) }
    #expect(throws: Errno.badAddress) { try vector([UInt64.max, 1]) }
  }

  @Test func anEmptyBufferMustLieInUserSpaceToo() throws {
    #expect(try Transfer(address: UserSpace.end - 8, count: 8).count == 8)
    #expect(try Transfer(address: UserSpace.end, count: 0).count == 0)
    #expect(throws: Errno.badAddress) { try Transfer(address: UserSpace.end - 8, count: 9) }
    #expect(throws: Errno.badAddress) { try Transfer(address: UserSpace.end + 1, count: 0) }
  }

  @Test func piecesRunUntilOneIsShort() throws {
    let transfer = try vector([0x10, 4, 0x20, 4, 0x30, 4])
    func run(_ results: [Result<Int, Errno>]) throws -> (done: Int, starts: [Int]) {
      var starts: [Int] = []
      let done = try transfer.run(in: Words([UInt64]())) { (_, done) throws(Errno) in
        defer { starts.append(done) }
        return try results[starts.count].get()
      }
      return (done, starts)
    }
    #expect(try run([.success(4), .success(4), .success(4)]) == (12, [0, 4, 8]))
    #expect(try run([.success(4), .success(3)]) == (7, [0, 4]))
    #expect(try run([.success(4), .failure(.badAddress)]) == (4, [0, 4]))
    #expect(throws: Errno.badAddress) { try run([.failure(.badAddress)]) }
  }
}
