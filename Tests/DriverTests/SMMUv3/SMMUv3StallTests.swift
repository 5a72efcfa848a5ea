// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: transactions that stall")
struct SMMUv3StallTests {
  private static let here: UInt64 = 0x7654_3210_0000
  private let answers = Collector<PageResponse>()

  /// A guest whose context descriptor has S, so that its faults stall.
  private func stalling(
    canStall: Bool = true, _ change: (inout ContextDescriptor) -> Void = { _ in }
  ) throws -> (SMMUv3Fixture, root: UInt64, page: UInt64) {
    let fixture = try SMMUv3Fixture(canStall: canStall)
    let guest = fixture.guest
    fixture.addVirtualDevice()
    let (root, page, descriptors) = (guest.allocate(), guest.allocate(), guest.allocate())
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.stallsFaults = true
    change(&descriptor)
    guest.store(descriptor, at: descriptors)
    // S1STALLD is clear.
    try fixture.attach(try fixture.makeNested(1 | 5 << 1 | descriptors | 6 << 59, 2))
    // The handler accepts each event and does not resume the transaction.
    fixture.driver.setPageRequestSink { _ in }
    let answers = answers
    fixture.port.setPageResponseReceiver { _, answer in answers.add(answer) }
    return (fixture, root, page)
  }

  private func tag(_ outcome: DMAOutcome) -> UInt16? {
    if case .stalled(let group) = outcome { return UInt16(group) }
    return nil
  }

  private func resume(
    _ fixture: SMMUv3Fixture, _ tag: UInt16, _ how: SMMUv3Command.ResumeResponse
  ) {
    let stream = StreamID(SMMUv3Fixture.stream)
    fixture.unit.submit([.resume(stream, tag: tag, how), .sync])
  }

  @Test("CMD_RESUME retries or terminates the transaction with its tag")
  func resuming() throws {
    let (fixture, root, page) = try stalling()
    let first = try #require(tag(fixture.port.load(Self.here).0))
    let second = try #require(tag(fixture.port.load(Self.here + 0x1000).0))
    #expect(first != second)
    resume(fixture, 400, .retry)
    #expect(answers.drain().isEmpty)
    fixture.guest.map(root, Self.here, to: page)
    resume(fixture, first, .retry)
    #expect(answers.drain() == [.success])
    #expect(fixture.port.load(Self.here).0 == .completed)
    resume(fixture, second, .abort)
    #expect(answers.drain() == [.failure])
    resume(fixture, second, .retry)
    #expect(answers.drain().isEmpty)
  }

  @Test("CMD_STALL_TERM terminates all stalled transactions of a stream")
  func termination() throws {
    let (fixture, _, _) = try stalling()
    for page in 0..<3 as Range<UInt64> {
      #expect(tag(fixture.port.load(Self.here + page << 12).0) != nil)
    }
    var command = SMMUv3Command(
      lower: SMMUv3Command.Opcode.terminateStalls.rawValue, upper: 0)
    command.stream = StreamID(rawValue: UInt32(SMMUv3Fixture.stream.rawValue) + 1)
    fixture.unit.submit([command])
    #expect(answers.drain().isEmpty)
    command.stream = StreamID(SMMUv3Fixture.stream)
    fixture.unit.submit([command])
    #expect(answers.drain() == [.failure, .failure, .failure])
  }

  @Test(
    "only a translation-related fault of a device that can stall, under a descriptor with S, stalls"
  )
  func limits() throws {
    let (device, _, _) = try stalling(canStall: false)
    #expect(device.port.load(Self.here).0.event?.kind == .translation)
    let (descriptor, _, _) = try stalling { $0.stallsFaults = false }
    #expect(descriptor.port.load(Self.here).0.event == .stage1(.translation))
    // An illegal context descriptor is a configuration error, which does not stall.
    let (fixture, _, _) = try stalling { $0.isValid = false }
    #expect(tag(fixture.port.load(Self.here).0) == nil)
    #expect(fixture.port.load(Self.here).0.event != nil)
  }

  @Test("a stalled transaction is aborted at once when no handler is set")
  func unhandled() throws {
    let (fixture, _, _) = try stalling()
    fixture.driver.setPageRequestSink(nil)
    #expect(fixture.port.load(Self.here).0.event?.kind == .translation)
    #expect(answers.drain().isEmpty)
  }

  @Test("a fault terminates when no stall tag is free")
  func exhaustion() throws {
    let (fixture, _, _) = try stalling()
    let first = try #require(tag(fixture.port.load(Self.here).0))
    for page in 1..<32 as Range<UInt64> {
      #expect(tag(fixture.port.load(Self.here + page << 12).0) != nil)
    }
    #expect(fixture.port.load(Self.here).0.event?.kind == .translation)
    resume(fixture, first, .terminate)
    #expect(tag(fixture.port.load(Self.here).0) != nil)
  }
}
