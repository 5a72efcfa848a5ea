// SPDX-License-Identifier: Apache-2.0

import IOMMU
import Synchronization
import Testing

@testable import PCI

/// A path that denies every translation until the test allows it, and answers page requests as the
/// test decides.
private final class DenyingPath: DMAPath {
  private struct State: Sendable {
    var attributes: [DMAAttributes] = []
    var isDenying = true
    var answer = PageRequestAnswer.unavailable
    var requests = 0
    var resets = 0
    var receiver: PageResponseReceiver?
  }
  private let state = Mutex(State())

  var attributes: [DMAAttributes] { state.withLock { $0.attributes } }
  var requests: Int { state.withLock { $0.requests } }
  var resets: Int { state.withLock { $0.resets } }
  func deny(_ isDenying: Bool, _ answer: PageRequestAnswer = .unavailable) {
    state.withLock { ($0.isDenying, $0.answer) = (isDenying, answer) }
  }
  func respond(_ group: UInt32, _ response: PageResponse) {
    state.withLock { $0.receiver }?(group, response)
  }

  private func access(_ iova: IOVA, _ attributes: DMAAttributes) -> DMAOutcome {
    state.withLock { state in
      state.attributes.append(attributes)
      return state.isDenying ? .denied(iova) : .completed
    }
  }

  func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome {
    buffer.initializeMemory(as: UInt8.self, repeating: 0x5a)
    return access(iova, attributes)
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome { access(iova, attributes) }

  func requestPages(
    _ iova: IOVA, count: Int, writes: Bool, _ attributes: DMAAttributes
  ) -> PageRequestAnswer {
    state.withLock { state in
      state.requests += 1
      return state.answer
    }
  }

  func setPageResponseReceiver(_ receiver: PageResponseReceiver?) {
    state.withLock { $0.receiver = receiver }
  }
  func resetDeviceTLB() { state.withLock { $0.resets += 1 } }
}

@Suite("ATS, page requests and PASIDs of a function")
struct TranslationServiceTests {
  private static let completed: UInt64 = 1
  private static let denied: UInt64 = 4
  private static let notIssued: UInt64 = 5

  private let path = DenyingPath()
  private let function: Function

  init() {
    var description = ATSTestDevice.description
    description.extendedCapabilities = [
      .init(.ats(queueDepth: 0), at: 0x100), .init(.pageRequest(capacity: 2048), at: 0x110),
      .init(
        .pasid(width: 20, permissions: PASIDCapability.execute | PASIDCapability.privileged),
        at: 0x120),
    ]
    function = Function(
      ATSTestDevice(), description: description,
      at: RequesterID(bus: 1, device: 0, function: 0), path: path)
    function.command = [.memorySpace, .busMaster]
  }

  /// Starts a copy from memory and returns the status register.
  private func run(_ attributes: UInt64 = 0) -> UInt64 {
    function.write(0x10, attributes)
    function.write(8, 3)
    return function.read(0x14)
  }

  @Test("requests have the attributes that configuration space enables")
  func rights() {
    path.deny(false)
    let everything: UInt64 = 0xe000_0007
    #expect(run(everything) == Self.notIssued, "PASIDs are not enabled")
    #expect(path.attributes.isEmpty)
    #expect(run() == Self.completed)
    function.writeConfig(0x126, UInt16(1))
    #expect(run(everything) == Self.completed)
    function.enablePASID()
    function.enableATS()
    #expect(run(everything) == Self.completed)
    let pasid = PASID(rawValue: 7)
    #expect(
      path.attributes == [
        DMAAttributes(), DMAAttributes(pasid: pasid),
        DMAAttributes(pasid: pasid, isPrivileged: true, executes: true, usesATS: true),
      ])
    #expect(run(0x6000_0007) == Self.completed)
    #expect(
      path.attributes.last == DMAAttributes(usesATS: true),
      "a request without a PASID has no PASID permissions")
    function.command = .memorySpace
    #expect(run() == Self.notIssued)
  }

  @Test("the count register holds 1 to 4096")
  func count() {
    path.deny(false)
    #expect(function.read(0x18) == 4096)
    for (written, kept) in [(0, 1), (8, 8), (4097, 4096), (0xffff_ffff, 4096)]
      as [(UInt64, UInt64)]
    {
      function.write(0x18, written)
      #expect(function.read(0x18) == kept)
    }
    function.write(0x14, 3)
    #expect(function.read(0x14) == 0, "the status register is read-only")
  }

  @Test("pages are requested only with ATS and the page request interface enabled")
  func interface() {
    #expect(run() == Self.denied)
    function.enablePageRequests(allocation: 32)
    #expect(run() == Self.denied)
    #expect(path.requests == 0)
    function.enableATS()
    #expect(run() == Self.denied)
    #expect(path.requests == 1)
    #expect(function.readConfig(0x11c, as: UInt32.self) == 32)
    #expect(function.readConfig(0x116, as: UInt16.self) & 0x100 == 0, "Stopped is clear")
  }

  @Test("a copy waits for the response to its own page request group")
  func waiting() {
    function.enableATS()
    function.enablePageRequests(allocation: 32)
    path.deny(true, .awaited(group: 3))
    #expect(run() == 0)
    #expect(function.read(8) & 1 == 1)
    function.write(0, 0x9000, width: 8)
    function.write(8, 1)
    #expect(function.read(0, width: 8) == 0, "writes are ignored while a copy waits")
    path.respond(4, .success)
    #expect(function.read(8) & 1 == 1)
    path.respond(3, .success)
    #expect(path.requests == 2, "the page is still denied, so the device requests it again")
    path.deny(false)
    path.respond(3, .success)
    #expect(function.read(8) & 1 == 0)
    #expect(function.read(0x14) == Self.completed)
    path.deny(true, .awaited(group: 5))
    #expect(run() == 0)
    path.respond(5, .failure)
    #expect(function.read(0x14) == Self.denied)
  }

  @Test("a copy ends as denied after 64 page requests without effect")
  func pageRequestLimit() {
    function.enableATS()
    function.enablePageRequests(allocation: 32)
    path.deny(true, .answered(.success))
    #expect(run() == Self.denied)
    #expect(path.requests == 64)
    path.deny(true, .answered(.invalid))
    #expect(run() == Self.denied)
    #expect(path.requests == 65)
  }

  @Test("a reset by the host cancels the copy and keeps ATS and PASIDs enabled")
  func reset() {
    function.enablePASID()
    function.enableATS()
    function.enablePageRequests(allocation: 32)
    path.deny(true, .awaited(group: 3))
    #expect(run() == 0)
    let resets = path.resets
    function.resetKeepingConfiguration()
    #expect(path.resets == resets + 1)
    #expect(function.read(8) & 1 == 0)
    path.deny(false)
    path.respond(3, .success)
    #expect(
      function.read(0x14) == 0, "a response to a page request from before the reset has no effect")
    #expect(run(0x8000_0001) == Self.completed)
    #expect(path.attributes.last?.usesATS == true)
  }
}
