// SPDX-License-Identifier: Apache-2.0

// The page table against a model that has a list of areas and searches it from the front.

import Host
import IOMMU
import SystemPackage
import TestSupport
import Testing

@testable import IOMMUFD

/// The kernel's rules with a list in place of its trees.
private struct ModelTable {
  struct Area {
    var range: ClosedRange<UInt64>
    var pages: Int
    var startByte: UInt64
    var canWrite: Bool
  }

  var areas: [Area] = []
  var placement = LinearPlacement()
  var disablesLargePages = false
  var domains = 0

  var alignment: UInt64 { disablesLargePages || domains > 0 ? 4096 : 1 }

  mutating func place(
    _ first: UInt64, _ length: UInt64, at iova: UInt64?
  ) -> Result<UInt64, Errno> {
    if length == 0 || length % alignment != 0 { return .failure(.invalidArgument) }
    placement.areas = areas.map(\.range)
    placement.alignment = alignment
    guard let iova else { return placement.choose(first, length) }
    if iova % alignment != 0 { return .failure(.invalidArgument) }
    let (last, overflow) = iova.addingReportingOverflow(length - 1)
    if overflow { return .failure(.overflow) }
    if placement.reserved.contains(where: { $0.overlaps(iova...last) }) {
      return .failure(.invalidArgument)
    }
    if areas.contains(where: { $0.range.overlaps(iova...last) }) { return .failure(.fileExists) }
    return .success(iova)
  }

  /// Returns the parts of areas that cover the range, or `nil`.
  func cover(_ iova: UInt64, _ length: UInt64) -> [(area: Area, part: ClosedRange<UInt64>)]? {
    var next = iova
    let last = iova + length - 1
    var parts: [(Area, ClosedRange<UInt64>)] = []
    while let area = areas.first(where: { $0.range.contains(next) }) {
      parts.append((area, next...min(last, area.range.upperBound)))
      if area.range.upperBound >= last { return parts }
      next = area.range.upperBound + 1
    }
    return nil
  }

  mutating func unmap(_ range: ClosedRange<UInt64>) -> (UInt64, Errno?) {
    var bytes: UInt64 = 0
    let hit = areas.filter { $0.range.overlaps(range) }.sorted {
      $0.range.lowerBound < $1.range.lowerBound
    }
    for area in hit {
      if area.range.clamped(to: range) != area.range { return (bytes, .noSuchFileOrDirectory) }
      areas.removeAll { $0.range == area.range }
      bytes += area.range.upperBound - area.range.lowerBound + 1
    }
    return (bytes, nil)
  }

  mutating func cut(after iova: UInt64) -> Errno? {
    guard let index = areas.firstIndex(where: { $0.range.contains(iova) }) else { return nil }
    let area = areas[index]
    let (first, last) = (area.range.lowerBound, area.range.upperBound)
    if iova == first || iova == last { return nil }
    let byte = area.startByte + (iova + 1 - first)
    if (iova + 1) % alignment != 0 || byte % alignment != 0 { return .invalidArgument }
    if domains > 0 && !disablesLargePages { return .invalidArgument }
    areas[index].range = first...iova
    areas.append(
      Area(range: iova + 1...last, pages: area.pages, startByte: byte, canWrite: area.canWrite))
    return nil
  }

  func isAligned(to alignment: UInt64) -> Bool {
    areas.allSatisfy {
      let length = $0.range.upperBound - $0.range.lowerBound + 1
      return ($0.range.lowerBound | length | $0.startByte % 4096) % alignment == 0
    }
  }
}

extension IOPageTable {
  fileprivate func map(
    _ slices: [PageSlice], _ length: UInt64, at iova: UInt64?, writable: Bool
  ) -> Result<UInt64, Errno> {
    do throws(Errno) {
      return .success(
        try map(
          slices, length: length, at: iova.map(IOVA.init(_:)),
          permissions: writable ? [.read, .write] : .read
        ).rawValue)
    } catch {
      return .failure(error)
    }
  }
}

@Suite struct IOPageTablePropertyTests {
  /// The pages are 4 MiB of one memfd, so that domains are filled quickly.
  private static let fileLength: UInt64 = 4 << 20

  @Test("random calls agree with a list of areas", arguments: Array(1...24) as [UInt64])
  func agreesWithAList(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let memory = try PhysicalMemory(.test)
    let table = IOPageTable(memory: memory, host: PinningHost())
    var model = ModelTable()
    let file = OwnedDescriptor(
      owning: try MemoryFile.create(name: "pages", length: Self.fileLength))
    let account = try PinAccount(InProcessClient(), mode: .user, needsAddressSpace: false)
    var pages: [IOPTPages] = []
    for index in 0..<6 {
      pages.append(
        IOPTPages(
          .file(file, base: UInt64(index) * 4096), pageCount: 512 + UInt64(index),
          isWritable: index % 3 != 0, account: account, memory: memory, host: table.host))
    }
    let driver = RecordingDriver(aperture: 0...(1 << 32 - 1))
    var domains: [RecordingDomain] = []

    func number(_ bound: UInt64) -> UInt64 { UInt64.random(in: 0..<bound, using: &random) }
    func iova() -> UInt64 {
      if number(60) == 0 { return 0 &- number(0x8000) }
      if number(3) > 0, let area = model.areas.randomElement(using: &random) {
        let (first, last) = (area.range.lowerBound, area.range.upperBound)
        return [first, last, last &+ 1, first &- 1, first &+ 4096][Int(number(5))]
      }
      return number(8) == 0 ? number(1 << 22) : number(1 << 10) << 12
    }
    func length() -> UInt64 {
      switch number(12) {
      case 0: number(3)
      case 1: number(0x4000)
      case 2: .max - number(3)
      default: (1 + number(8)) << 12
      }
    }

    for step in 0..<5_000 {
      switch number(20) {
      case 0..<8:
        let index = Int(number(UInt64(pages.count)))
        let start = number(6) == 0 ? number(0x8000) : number(64) << 12
        let (length, place) = (min(length(), 1 << 20), number(2) == 0 ? nil : iova())
        let writable = number(2) == 0
        let slice = PageSlice(pages: pages[index], startByte: start, length: length)
        var expected = model.place(UInt64(index) << 12 + start, length, at: place)
        if case .success(let place) = expected {
          if writable && index % 3 == 0 {
            expected = .failure(.notPermitted)
          } else if start % 4096 % model.alignment != 0 {
            expected = .failure(.invalidArgument)
          } else {
            model.areas.append(
              .init(
                range: place...place + length - 1, pages: index, startByte: start,
                canWrite: index % 3 != 0))
          }
        }
        #expect(table.map([slice], length, at: place, writable: writable) == expected)

      case 8..<12:
        let (first, length) = (iova(), length())
        let result = table.unmap(IOVA(first), length: length)
        let (last, overflow) = first.addingReportingOverflow(length &- 1)
        if length == 0 || overflow {
          #expect(result.failure == (length == 0 ? .invalidArgument : .overflow))
        } else {
          let (bytes, failure) = model.unmap(first...last)
          #expect(result.bytes == bytes && result.failure == failure)
        }

      case 12..<15:
        let (source, target) = (iova(), number(2) == 0 ? nil : iova())
        let length = min(length(), 1 << 20)
        guard length > 0, !source.addingReportingOverflow(length - 1).overflow else { continue }
        let slices = try? table.pages(at: IOVA(source), length: length)
        let parts = model.cover(source, length)
        #expect((slices == nil) == (parts == nil))
        guard let slices, let parts else { continue }
        #expect(slices.map(\.length) == parts.map { $0.part.upperBound - $0.part.lowerBound + 1 })
        let bytes = parts.map {
          $0.area.startByte + ($0.part.lowerBound - $0.area.range.lowerBound)
        }
        #expect(slices.map(\.startByte) == bytes)
        var expected = model.place(UInt64(parts[0].area.pages) << 12 + bytes[0], length, at: target)
        if case .success(let place) = expected {
          if let bad = bytes.first(where: { $0 % 4096 % model.alignment != 0 }) {
            #expect(bad % 4096 != 0)
            expected = .failure(.invalidArgument)
          } else {
            for (part, byte) in zip(parts, bytes) {
              let at = place + (part.part.lowerBound - source)
              model.areas.append(
                .init(
                  range: at...at + (part.part.upperBound - part.part.lowerBound),
                  pages: part.area.pages, startByte: byte, canWrite: part.area.canWrite))
            }
          }
        }
        #expect(table.map(slices, length, at: target, writable: false) == expected)

      case 15..<17:
        let (first, length) = (iova(), length())
        var failure: Errno?
        do throws(Errno) { try table.cut(around: IOVA(first), length: length) } catch {
          failure = error
        }
        var expected = model.cut(after: first &+ length &- 1)
        if expected == nil && first != 0 { expected = model.cut(after: first - 1) }
        #expect(failure == expected)

      case 17:
        if number(3) > 0 {
          table.enableLargePages()
          model.disablesLargePages = false
          continue
        }
        var expected: Errno?
        if !model.disablesLargePages {
          if model.domains > 0 && !model.areas.isEmpty {
            expected = .invalidArgument
          } else if !model.isAligned(to: 4096) {
            expected = .addressInUse
          }
        }
        var failure: Errno?
        do throws(Errno) { try table.disableLargePages() } catch { failure = error }
        #expect(failure == expected)
        if failure == nil { model.disablesLargePages = true }

      case 18:
        // Domains are added rarely and removed soon, because they prevent unaligned areas.
        guard number(3) == 0, domains.count < 3 else {
          if let index = domains.indices.randomElement(using: &random) {
            let gone = domains.remove(at: index)
            table.removeDomain(gone)
            #expect(gone.mappings.isEmpty)
            model.domains -= 1
            if model.domains == 0 { model.placement.reserved = [] }
          }
          continue
        }
        let domain = try driver.newDomain()
        let outside: ClosedRange<UInt64> = (1 << 32)...UInt64.max
        var expected: Errno?
        if model.alignment < 4096 && !model.isAligned(to: 4096)
          || model.areas.contains(where: { $0.range.overlaps(outside) })
        {
          expected = .addressInUse
        }
        var failure: Errno?
        do throws(Errno) { try table.addDomain(domain) } catch { failure = error }
        #expect(failure == expected)
        guard failure == nil else { continue }
        domains.append(domain)
        model.domains += 1
        model.placement.reserved = [outside]

      default:
        guard number(40) == 0 else { continue }
        let result = table.unmapAll()
        #expect(result.failure == nil)
        #expect(result.bytes == model.unmap(0 ... .max).0)
      }
      if step % 250 == 0 { compare(table, model, domains, memory) }
      #expect(table.alignment == model.alignment)
    }
    _ = table.unmapAll()
    #expect(memory.pinnedFrames == 0)
    for domain in domains { #expect(domain.mappings.isEmpty) }
  }

  private func compare(
    _ table: IOPageTable, _ model: ModelTable, _ domains: [RecordingDomain],
    _ memory: PhysicalMemory
  ) {
    let sorted = model.areas.sorted { $0.range.lowerBound < $1.range.lowerBound }
    #expect(table.areas.isSound)
    #expect(table.areas.intervals.map(\.first) == sorted.map(\.range.lowerBound))
    #expect(table.areas.intervals.map(\.last) == sorted.map(\.range.upperBound))
    #expect(table.areas.intervals.map(\.value.startByte) == sorted.map(\.startByte))
    let bytes = sorted.reduce(0) { $0 + ($1.range.upperBound - $1.range.lowerBound + 1) }
    for domain in domains { #expect(domain.mappedBytes == bytes) }
    // A page of the file has one frame in all areas.
    var pinned: Set<UInt64> = []
    if model.domains > 0 {
      for area in sorted {
        let first = UInt64(area.pages) + area.startByte >> 12
        for page in 0..<(area.range.upperBound - area.range.lowerBound + 1) >> 12 {
          pinned.insert(first + page)
        }
      }
    }
    #expect(memory.pinnedFrames == pinned.count)
  }
}
