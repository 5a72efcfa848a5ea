// SPDX-License-Identifier: Apache-2.0

import TestSupport

@testable import IOMMU

/// A unit whose configuration tables contain the entries of the model.
protocol StalenessFixture {
  var model: StalenessModel { get set }
  var memory: StalenessMemory { get }
  var ports: [DMAPort] { get }

  /// Returns whether requests with this PASID use only the second-stage tables.
  func isSecond(_ pasid: Int) -> Bool
  /// Changes an entry in memory and in the model.
  mutating func changeConfiguration(_ random: inout SeededGenerator)
  /// Remaps the address of a small frame as in the model.
  mutating func storeHost(_ frame: Int)
  /// Whether a translation completion has exactly the requested permissions. Otherwise it is not
  /// known whether a device that has read a page requests it again for a write.
  var answersWithAskedRights: Bool { get }
  /// Whether the second-stage tables can change.
  var hasHost: Bool { get }
  /// Sends a random invalidation to the unit and to the model.
  mutating func invalidate(_ random: inout SeededGenerator)
}

/// An outcome of a request that is not possible.
private struct Unexpected: Error, CustomStringConvertible {
  let description: String
}

extension StalenessFixture {
  /// Makes a port for each device, with a device TLB as large as the unit's IOTLB of small pages.
  static func makePorts(
    _ iotlb: IOTLBGeometry, _ make: (RequesterID, DeviceTLBGeometry) -> DMAPort
  ) -> [DMAPort] {
    var geometry = DeviceTLBGeometry()
    geometry.sets = iotlb.sets4K
    return (0..<StalenessModel.devices).map { make(requester($0), geometry) }
  }

  static func requester(_ device: Int) -> RequesterID { .test(UInt8(device)) }

  static func pasid(_ index: Int) -> PASID? {
    index == 0 ? nil : PASID(rawValue: UInt32(index))
  }

  /// Returns a naturally aligned range around a random page, and log2 of its size.
  func randomRange(
    _ random: inout SeededGenerator, isSecond: Bool
  ) -> (start: UInt64, shift: Int, range: ClosedRange<UInt64>) {
    let page = Int.random(in: 0..<StalenessTables.pages, using: &random)
    let shift = [12, 12, 12, 13, 14, 21, 30].randomElement(using: &random) ?? 12
    let start = (model.address(page, isSecond: isSecond) >> UInt64(shift)) << UInt64(shift)
    return (start, shift, start...start + (1 << UInt64(shift) - 1))
  }

  // MARK: Running a case

  /// - Parameters:
  ///   - isExact: Whether the caches of the unit replace nothing.
  /// - Returns: The problem, or `nil`.
  mutating func run(
    _ steps: Int, _ random: inout SeededGenerator, usesATS: Bool, isExact: Bool
  ) -> String? {
    for step in 0..<steps {
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<5: changeTables(&random)
      case 5: changeConfiguration(&random)
      case 6..<10: invalidate(&random)
      default:
        if let problem = request(step, &random, usesATS: usesATS, isExact: isExact) {
          return "step \(step): \(problem)"
        }
        continue
      }
      model.addReachable()
    }
    return nil
  }

  private mutating func changeTables(_ random: inout SeededGenerator) {
    typealias Tables = StalenessTables
    let (m, l) = (Int.random(in: 0..<2, using: &random), Int.random(in: 0..<4, using: &random))
    switch Int.random(in: 0..<12, using: &random) {
    case 0:
      let root = Int.random(in: 0..<Tables.roots, using: &random)
      model.tables.top[root][m] = Int.random(in: 0..<Tables.directories, using: &random)
      memory.storeTop(root, m, model.tables)
    case 1..<4:
      let directory = Int.random(in: 0..<Tables.directories, using: &random)
      model.tables.middle[directory][m] =
        switch Int.random(in: 0..<8, using: &random) {
        case 0: .absent
        case 1, 2: .large(Int.random(in: 0..<Tables.largePages, using: &random))
        default: .table(Int.random(in: 0..<Tables.tables, using: &random))
        }
      memory.storeMiddle(directory, m, model.tables)
    case 4...5 where hasHost:
      let frame = Int.random(in: 0..<Tables.smallFrames, using: &random)
      model.tables.host[frame] = Int.random(in: 0..<Tables.smallFrames, using: &random)
      storeHost(frame)
    default:
      let table = Int.random(in: 0..<Tables.tables, using: &random)
      let frame = Int.random(in: 0..<Tables.smallFrames, using: &random)
      let kind = Int.random(in: 0..<8, using: &random)
      model.tables.bottom[table][l] = kind == 0 ? .absent : .page(frame, writable: kind > 2)
      memory.storeBottom(table, l, model.tables)
    }
  }

  private mutating func request(
    _ step: Int, _ random: inout SeededGenerator, usesATS: Bool, isExact: Bool
  ) -> String? {
    let isWrite = Int.random(in: 0..<4, using: &random) == 0
    let canUseATS = usesATS && (answersWithAskedRights || !(isWrite && isExact))
    let (device, pasid) = StalenessModel.randomDeviceAndPASID(&random)
    let request = StalenessModel.Request(
      device: device, pasid: pasid,
      page: Int.random(in: 0..<StalenessTables.pages, using: &random),
      isWrite: isWrite, usesATS: canUseATS && Int.random(in: 0..<4, using: &random) > 0)
    let frame: Int?
    switch perform(request, stamp: UInt64(step) + 1) {
    case .success(let found): frame = found
    case .failure(let problem): return "\(request): \(problem)"
    }
    let text = frame.map { "frame \($0)" } ?? "a fault"
    guard model.allows(request, frame) else {
      return "\(request): \(text) was not possible since it was last invalidated"
    }
    if isExact {
      if let expected = model.expected(request), expected.seen.frame != frame {
        return "\(request): \(text), not frame \(expected.seen.frame), which was not invalidated"
      }
      model.record(request, frame)
    }
    return nil
  }

  /// - Returns: The frame that was read or written, or `nil` after a fault.
  private func perform(
    _ request: StalenessModel.Request, stamp: UInt64
  ) -> Result<Int?, Unexpected> {
    let address = model.address(request.page, isSecond: isSecond(request.pasid))
    let attributes = DMAAttributes(pasid: Self.pasid(request.pasid), usesATS: request.usesATS)
    let port = ports[request.device]
    var (outcome, value): (DMAOutcome, UInt64)
    if request.isWrite {
      outcome = port.store(stamp, to: address + 8, attributes)
      value = 0
    } else {
      (outcome, value) = port.load(address, attributes)
    }
    switch outcome {
    case .fault, .denied: return .success(nil)
    case .stalled, .aborted: return .failure(Unexpected(description: "\(outcome)"))
    case .completed: break
    }
    guard request.isWrite else { return .success(Int(value) - 1) }
    let written = (0..<StalenessTables.frames).filter {
      let place = memory.physicalAddress(ofFrame: $0)
      return memory.memory.word(at: PhysicalAddress(place.rawValue + 8)) == stamp
    }
    guard written.count == 1 else {
      return .failure(Unexpected(description: "frames \(written) were written"))
    }
    return .success(written[0])
  }
}
