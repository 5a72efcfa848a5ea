// SPDX-License-Identifier: Apache-2.0

// Every step of every scenario is made to fail once. A call that fails must change nothing, and the
// last close must leave no frame, no table, no object and no device.

import CUAPI
import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// The state of a context that a failed call must not change.
private struct ContextState: Equatable {
  var users: [ObjectID: Int] = [:]
  var ids = 0
  var spaces: [ObjectID: Space] = [:]
  var attachments: [String: [ObjectID]] = [:]
  var pinnedFrames = 0

  struct Space: Equatable {
    let areas: Int
    let domains: Int
    let accesses: Int
    let accessPins: Int
    let hwpts: Int
    let reserved: [ClosedRange<UInt64>]
    let allowed: [ClosedRange<UInt64>]
    let alignment: UInt64
  }

  init(_ context: Context) {
    context.lock.withLock {
      ids = context.objects.count
      for object in context.objects.all(Object.self) { users[object.id] = object.users }
      for ioas in context.objects.all(IOAS.self) {
        let table = ioas.pageTable
        var accessPins = 0
        table.forEachArea { accessPins += Int($0.pins) }
        spaces[ioas.id] = Space(
          areas: table.areaCount, domains: table.domains.count,
          accesses: table.accesses.count, accessPins: accessPins, hwpts: ioas.hwpts.count,
          reserved: table.ranges.reserved.union, allowed: table.ranges.allowed,
          alignment: table.alignment)
      }
      for group in context.groups.values {
        for (pasid, attachment) in group.attachments {
          attachments["\(group.group.id) \(pasid?.rawValue ?? 0)"] =
            [attachment.hwpt.id] + attachment.devices.keys.sorted()
        }
      }
    }
    pinnedFrames = context.memory.pinnedFrames
  }
}

/// An open file whose calls are checked.
final class Sweep {
  let mock: MockFile
  private let context: Context
  private var descriptors: [Int32] = []
  /// The number of steps before the failure.
  private(set) var countdown: UInt32

  init(failing step: UInt32) throws {
    mock = try MockFile()
    context = try mock.file.context
    countdown = step
  }

  /// - Throws: The errno of the call. A call that fails at a step has changed nothing.
  @discardableResult
  func call<T>(_ call: (MockFile) -> Result<T, Errno>) throws(Errno) -> T {
    let before = ContextState(context)
    let armed = countdown
    let result = FaultInjection.counting(down: &countdown) { call(mock) }
    if armed > 0, countdown == 0, case .failure(let error) = result {
      #expect(ContextState(context) == before, "\(error) of step \(armed)")
    }
    return try result.get()
  }

  func call(_ call: (MockFile) -> Errno?) throws(Errno) {
    try self.call { mock in call(mock).map { .failure($0) } ?? .success(()) }
  }

  /// Runs a call that returns a descriptor.
  func open(_ call: (MockFile) -> Result<UInt32, Errno>) throws(Errno) -> UInt32 {
    let descriptor = try self.call(call)
    descriptors.append(Int32(bitPattern: descriptor))
    return descriptor
  }

  /// Runs a call that makes a queue, and returns the ID.
  func openQueue(
    _ call: (MockFile) -> Result<(id: UInt32, number: Int32), Errno>
  ) throws(Errno) -> UInt32 {
    let queue = try self.call(call)
    descriptors.append(queue.number)
    return queue.id
  }

  func closeLast() {
    if let descriptor = descriptors.popLast() { mock.file.client.close(descriptor) }
  }

  /// Closes the file and checks that nothing of it is left.
  func close() throws {
    while !descriptors.isEmpty { closeLast() }
    mock.close()
    let driver = try #require(context.selftest?.driver)
    #expect(context.objects.isEmpty)
    #expect(context.groups.isEmpty)
    #expect(context.memory.pinnedFrames == 0)
    #expect(context.memory.tablePagesInUse == 0)
    #expect(try driver.plug([]).rawValue == 0)
  }
}

@Suite struct FaultInjectionTests {
  @Test(
    "a call whose step is made to fail changes nothing, and close leaves nothing",
    arguments: everyScenario)
  func everyStepFails(_ scenario: Scenario) throws {
    for step in UInt32(1)... {
      let sweep = try Sweep(failing: step)
      var failure: Errno?
      do throws(Errno) { try scenario.run(sweep) } catch { failure = error }
      let hasFired = sweep.countdown == 0
      try sweep.close()
      if hasFired { continue }
      #expect(failure == nil, "nothing was made to fail")
      #expect(step > scenario.leastSteps)
      return
    }
  }

  @Test(
    "the failure count is of one thread, is exact between calls and becomes 0 when the failure is injected"
  )
  func countdown() throws {
    let file = try ControlFile()
    defer { file.close() }
    var countdown: UInt32 = 3
    func make() -> Errno? {
      var command = iommu_ioas_alloc(size: 12, flags: 0, out_ioas_id: 0)
      return FaultInjection.counting(down: &countdown) { file.call(.ioasAlloc, &command) }
    }
    #expect(make() == nil)
    #expect(countdown == 2)
    #expect(make() == nil)
    #expect(try file.makeIOAS() == 3)
    #expect(countdown == 1)
    #expect(make() == .noMemory)
    #expect(countdown == 0)
    #expect(make() == nil)
  }
}
