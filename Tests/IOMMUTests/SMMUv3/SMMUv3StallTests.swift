import SystemPackage
import TestSupport
import Testing

@testable import IOMMU
@testable import IOMMUFD

@Suite("SMMUv3: transactions that stall")
struct SMMUv3StallTests {
  private static let here: UInt64 = 0x7654_3210_0000
  private let answers = Collector<PageResponse>()

  /// A guest whose faults stall as far as its descriptor goes.
  private func stalling(
    canStall: Bool = true, _ change: (inout ContextDescriptor) -> Void = { _ in }
  ) throws -> (SMMUv3Machine, root: UInt64, page: UInt64) {
    let machine = try SMMUv3Machine(canStall: canStall)
    let guest = machine.guest
    machine.knowDevice()
    let (root, page, descriptors) = (guest.take(), guest.take(), guest.take())
    var descriptor = ContextDescriptor.test(root, asid: 1)
    descriptor.stallsFaults = true
    change(&descriptor)
    guest.store(descriptor, at: descriptors)
    // S1STALLD is clear.
    try machine.attach(try machine.nested(1 | 5 << 1 | descriptors | 6 << 59, 2))
    // Somebody answers, some time.
    machine.driver.setPageRequestSink { _ in }
    let answers = answers
    machine.port.setPageResponseReceiver { _, answer in answers.add(answer) }
    return (machine, root, page)
  }

  private func tag(_ outcome: DMAOutcome) -> UInt16? {
    if case .stalled(let group) = outcome { return UInt16(group) }
    return nil
  }

  private func resume(
    _ machine: SMMUv3Machine, _ tag: UInt16, _ how: SMMUv3Command.ResumeResponse
  ) {
    let stream = StreamID(SMMUv3Machine.stream)
    machine.unit.submit([.resume(stream, tag: tag, how), .sync])
  }

  @Test("CMD_RESUME retries, or ends the transaction that its tag names")
  func resuming() throws {
    let (machine, root, page) = try stalling()
    let first = try #require(tag(machine.port.load(Self.here).0))
    let second = try #require(tag(machine.port.load(Self.here + 0x1000).0))
    #expect(first != second)
    resume(machine, 400, .retry)
    #expect(answers.take().isEmpty)
    machine.guest.map(root, Self.here, to: page)
    resume(machine, first, .retry)
    #expect(answers.take() == [.success])
    #expect(machine.port.load(Self.here).0 == .completed)
    resume(machine, second, .abort)
    #expect(answers.take() == [.failure])
    resume(machine, second, .retry)
    #expect(answers.take().isEmpty)
  }

  @Test("CMD_STALL_TERM ends all of a stream")
  func termination() throws {
    let (machine, _, _) = try stalling()
    for page in 0..<3 as Range<UInt64> {
      #expect(tag(machine.port.load(Self.here + page << 12).0) != nil)
    }
    var command = SMMUv3Command(
      lower: SMMUv3Command.Opcode.terminateStalls.rawValue, upper: 0)
    command.stream = StreamID(rawValue: UInt32(SMMUv3Machine.stream.rawValue) + 1)
    machine.unit.submit([command])
    #expect(answers.take().isEmpty)
    command.stream = StreamID(SMMUv3Machine.stream)
    machine.unit.submit([command])
    #expect(answers.take() == [.failure, .failure, .failure])
  }

  @Test("faults of translation stall; others, other devices' and other descriptors' terminate")
  func limits() throws {
    let (device, _, _) = try stalling(canStall: false)
    #expect(device.port.load(Self.here).0.event?.kind == .translation)
    let (descriptor, _, _) = try stalling { $0.stallsFaults = false }
    #expect(descriptor.port.load(Self.here).0.event == .stage1(.translation))
    // A descriptor that is not legal is not a fault of translation.
    let (machine, _, _) = try stalling { $0.isValid = false }
    #expect(tag(machine.port.load(Self.here).0) == nil)
    #expect(machine.port.load(Self.here).0.event != nil)
  }

  @Test("nobody handles them: aborted at once")
  func unhandled() throws {
    let (machine, _, _) = try stalling()
    machine.driver.setPageRequestSink(nil)
    #expect(machine.port.load(Self.here).0.event?.kind == .translation)
    #expect(answers.take().isEmpty)
  }

  @Test("tags run out")
  func exhaustion() throws {
    let (machine, _, _) = try stalling()
    let first = try #require(tag(machine.port.load(Self.here).0))
    for page in 1..<32 as Range<UInt64> {
      #expect(tag(machine.port.load(Self.here + page << 12).0) != nil)
    }
    #expect(machine.port.load(Self.here).0.event?.kind == .translation)
    resume(machine, first, .terminate)
    #expect(tag(machine.port.load(Self.here).0) != nil)
  }
}
