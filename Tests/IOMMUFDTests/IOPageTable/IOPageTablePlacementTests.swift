// SPDX-License-Identifier: Apache-2.0

import Glibc
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// The kernel's rule as a linear search: every allowed range and every hole in order.
struct LinearPlacement {
  var areas: [ClosedRange<UInt64>] = []
  var reserved: [ClosedRange<UInt64>] = []
  var allowed: [ClosedRange<UInt64>] = []
  var alignment: UInt64 = 1

  /// Returns the maximal runs of numbers in `used`, or for holes of numbers not in `used`, clipped
  /// to `bounds`.
  private static func spans(
    of used: [ClosedRange<UInt64>], in bounds: ClosedRange<UInt64>, holes: Bool
  ) -> [ClosedRange<UInt64>] {
    var result: [ClosedRange<UInt64>] = []
    var union: [ClosedRange<UInt64>] = []
    for range in used.sorted(by: { $0.lowerBound < $1.lowerBound }) where range.overlaps(bounds) {
      let range = range.clamped(to: bounds)
      if let last = union.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 {
        union[union.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        union.append(range)
      }
    }
    if !holes { return union }
    var next: UInt64? = bounds.lowerBound
    for range in union {
      if let start = next, range.lowerBound > start { result.append(start...range.lowerBound - 1) }
      next = range.upperBound == .max ? nil : range.upperBound + 1
    }
    if let start = next, start <= bounds.upperBound { result.append(start...bounds.upperBound) }
    return result
  }

  func choose(_ source: UInt64, _ length: UInt64) -> Result<UInt64, Errno> {
    if length == 0 || length >= UInt64.max / 2 { return .failure(.overflow) }
    var power: UInt64 = 1
    while power < length { power *= 2 }
    if source != 0 { power = min(power, source & (0 &- source)) }
    power = min(power, 2 << 20)
    if power < alignment { return .failure(.invalidArgument) }

    func fit(_ range: ClosedRange<UInt64>) -> UInt64? {
      let (sum, overflow) = range.lowerBound.addingReportingOverflow(power - 1)
      if overflow { return nil }
      let start = sum & ~(power - 1) | source % 4096
      if start >= range.upperBound || range.upperBound - start < length - 1 { return nil }
      return start
    }

    let everything: ClosedRange<UInt64> = 4096...UInt64.max - 4096
    let spans =
      allowed.isEmpty ? [everything] : Self.spans(of: allowed, in: everything, holes: false)
    for span in spans {
      guard let start = fit(span) else { continue }
      for hole in Self.spans(of: reserved + areas, in: start...span.upperBound, holes: true) {
        if let place = fit(hole) { return .success(place) }
      }
    }
    return .failure(.noSpace)
  }
}

/// Returns the processor time of this thread in seconds.
private func processorTime() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

extension IOPageTable {
  /// Returns the result of automatic placement.
  func place(_ source: UInt64, _ length: UInt64) -> Result<UInt64, Errno> {
    do throws(Errno) {
      return .success(try chooseIOVA(for: source, length: length).rawValue)
    } catch {
      return .failure(error)
    }
  }

  /// Adds an area for its IOVA range.
  func insertArea(_ range: ClosedRange<UInt64>, of pages: IOPTPages) {
    let area = Area(
      IOVA(range.lowerBound)...IOVA(range.upperBound), of: pages, at: 0, permissions: .read)
    areas.insert(Interval(first: range.lowerBound, last: range.upperBound, value: area))
  }
}

@Suite struct PlacementTests {
  @Test(
    "automatic placement agrees with a linear search by the kernel's rule",
    arguments: Array(1...40) as [UInt64])
  func agreesWithTheLinearRule(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let table = IOPageTable(memory: try .testMemory, host: PinningHost())
    let pages = try IOPTPages.unpinnable()
    var model = LinearPlacement()
    /// Returns a number near 0 or near the maximum, in steps of small or whole pages.
    func number() -> UInt64 {
      let unit: UInt64 = [1, 0x200, 0x800, 0x1000, 0x1000, 0x1000, 0x20_0000].randomElement(
        using: &random)!
      let offset = UInt64.random(in: 0..<1024, using: &random) * unit
      return Int.random(in: 0..<10, using: &random) == 0 ? 0 &- offset &- 1 : offset
    }
    func range() -> ClosedRange<UInt64> {
      let (a, b) = (number(), number())
      if Bool.random(using: &random) { return min(a, b)...max(a, b) }
      let length = UInt64.random(in: 1..<64, using: &random) * 0x800
      return a...max(a, a.addingReportingOverflow(length - 1).overflow ? .max : a + length - 1)
    }

    for _ in 0..<Int.random(in: 0..<4, using: &random) {
      let range = range()
      try? table.reserve(range, for: nil)
      if table.ranges.reserved.isReserved(anyOf: range) { model.reserved.append(range) }
    }
    for _ in 0..<(Bool.random(using: &random) ? 0 : 6) {
      let range = range()
      guard !model.allowed.contains(where: { $0.overlaps(range) }),
        !table.ranges.reserved.isReserved(anyOf: range)
      else { continue }
      model.allowed.append(range)
    }
    try table.setAllowed(model.allowed.sorted { $0.lowerBound < $1.lowerBound })

    for _ in 0..<400 {
      let length: UInt64 =
        switch Int.random(in: 0..<5, using: &random) {
        case 0: UInt64.random(in: 0..<5, using: &random)
        case 1: UInt64.random(in: 1..<0x4000, using: &random)
        case 2: UInt64(1) << UInt64.random(in: 0..<64, using: &random)
        default: UInt64.random(in: 1..<8, using: &random) * 0x1000
        }
      let source = Int.random(in: 0..<6, using: &random) == 0 ? 0 : number()
      let expected = model.choose(source, length)
      #expect(table.place(source, length) == expected)
      let taken: ClosedRange<UInt64>
      switch (expected, Bool.random(using: &random)) {
      case (.success(let place), true): taken = place...place + length - 1
      default: taken = range()
      }
      if table.areas.firstInterval(overlapping: taken.lowerBound, through: taken.upperBound) == nil
      {
        table.insertArea(taken, of: pages)
        model.areas.append(taken)
      } else if let victim = model.areas.indices.randomElement(using: &random) {
        table.areas.remove(containing: model.areas.remove(at: victim).lowerBound)
      }
    }
  }

  @Test("automatic placement requires the alignment of the table")
  func alignmentOfTheTableIsRequired() throws {
    let table = IOPageTable(memory: try .testMemory, host: PinningHost())
    try table.disableLargePages()
    #expect(table.place(0x1800, 0x800) == .failure(.invalidArgument))
    #expect(table.place(0x1000, 0x1000) == .success(0x1000))
  }

  /// The kernel walks through the areas. The bound is generous: even an unoptimised build takes a
  /// small part of it, and a linear search takes many times as long.
  @Test("automatic placement finds a hole behind 100,000 areas by one path")
  func adjacentAreas() throws {
    let table = IOPageTable(memory: try .testMemory, host: PinningHost())
    let pages = try IOPTPages.unpinnable()
    for index in 1...100_000 as ClosedRange<UInt64> {
      table.insertArea(index * 0x1000...index * 0x1000 + 0xfff, of: pages)
    }
    // The holes are large enough but not aligned.
    for index in stride(from: 1, to: 100_000, by: 4) as StrideTo<UInt64> {
      table.areas.remove(containing: index * 0x1000)
      table.areas.remove(containing: index * 0x1000 + 0x1000)
    }
    let area = try #require(table.areas.first).value
    let start = processorTime()
    for _ in 0..<100 {
      #expect(table.place(0x2000, 0x2000) == .success(0x186a2000))
      table.areas.insert(Interval(first: 0x1000, last: 0x1fff, value: area))
      table.areas.remove(containing: 0x1000)
    }
    #expect((processorTime() - start) / 100 < 0.005)
  }
}
