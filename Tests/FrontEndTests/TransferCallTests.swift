// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Testing
import UAPI

@testable import FrontEnd

@Suite("The arguments of a read or write")
struct TransferCallTests {
  /// Memory that cannot be accessed.
  private struct NoMemory: UserMemory {
    func copyIn(from address: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(Errno) {
      throw .badAddress
    }
    func copyOut(_ bytes: UnsafeRawBufferPointer, to address: UInt64) throws(Errno) {
      throw .badAddress
    }
  }

  private func call(_ form: TransferCall.Form, _ arguments: UInt64...) -> TransferCall {
    TransferCall(form) { $0 < arguments.count ? arguments[$0] : 0 }
  }

  @Test func theOffsetDependsOnTheForm() {
    #expect(call(.init(position: .file), 3, 0x1000, 4, 9).offset == nil)
    #expect(call(.init(position: .argument), 3, 0x1000, 4, .max).offset == .max)
    #expect(call(.init(position: .argumentOrFile), 3, 0x1000, 4, .max).offset == nil)
    #expect(call(.init(position: .argumentOrFile), 3, 0x1000, 4, 9).offset == 9)
  }

  @Test func a32BitCallerPassesTheOffsetInTwoRegisters() {
    let half: UInt64 = 0xffff_ffff
    let form = TransferCall.Form(position: .argument, wordSize: 4)
    #expect(call(form, 3, 0x1000, 4, 0x10, 0x700).offset == 0x700_0000_0010)
    let preadv2 = TransferCall.Form(position: .argumentOrFile, isVector: true, wordSize: 4)
    #expect(call(preadv2, 3, 0x1000, 1, half, half).offset == nil)
    #expect(call(preadv2, 3, 0x1000, 1, half, 0).offset == half)
  }

  @Test func aVectorOrAnotherLengthIsNotOneBuffer() {
    #expect(call(.init(position: .file), 3, 0x1000, 4).isOneBuffer(of: 4))
    #expect(!call(.init(position: .file), 3, 0x1000, 5).isOneBuffer(of: 4))
    #expect(!call(.init(position: .file, isVector: true), 3, 0x1000, 4).isOneBuffer(of: 4))
  }

  @Test func flagsAreCheckedAfterTheMemory() throws {
    let preadv2 = TransferCall.Form(position: .argumentOrFile)
    let memory = NoMemory()
    #expect(throws: Errno.notSupported) {
      try call(preadv2, 3, 0x1000, 4, 0, 0, 2).transfer(in: memory)
    }
    #expect(throws: Errno.badAddress) {
      try call(preadv2, 3, .max, 4, 0, 0, 2).transfer(in: memory)
    }
    // RWF_HIPRI; the upper half of the register has no meaning.
    #expect(try call(preadv2, 3, 0x1000, 4, 0, 0, 0xf_0000_0001).transfer(in: memory).count == 4)
    // A vector without buffers has no bytes to which a flag could apply.
    let vector = TransferCall.Form(position: .argumentOrFile, isVector: true)
    #expect(try call(vector, 3, 0x1000, 0, 0, 0, 2).transfer(in: memory).pieces.isEmpty)
  }
}
