// SPDX-License-Identifier: Apache-2.0

// Pages that arrive late. A call that waits for a page holds no lock, so everything can change
// meanwhile: areas, domains, devices. Tests/Clients/mock/mock_late.c has the answers of the kernel.

import CUAPI
import Dispatch
import Glibc
import IOMMU
import Synchronization
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

/// A mock device and memory whose pages arrive late.
private struct Scene {
  let mock: MockFile
  /// The IOAS of the device.
  let home: UInt32
  let device: (device: UInt32, bound: UInt32, hwpt: UInt32)
  let late: LateMemory

  init(latePages: Int) throws {
    mock = try MockFile()
    home = try mock.file.makeIOAS()
    device = try mock.makeDevice(home).get()
    late = try LateMemory(pages: latePages)
  }
}

@Suite(.enabled(if: geteuid() == 0, "userfaultfd(2) for faults in the kernel needs privilege"))
struct LatePageTests {
  private static let start = UInt64(MOCK_APERTURE_START)

  /// Runs `call` on a thread, and `meanwhile` while it waits for a page of `late`. Then the pages
  /// arrive.
  private func wait<Result: Sendable>(
    for late: LateMemory, _ call: @escaping @Sendable () -> Result,
    meanwhile: () throws -> Void
  ) throws -> Result {
    let result = Mutex<Result?>(nil)
    let thread = Thread {
      let value = call()
      result.withLock { $0 = value }
    }
    thread.start()
    #expect(late.awaitFault())
    do {
      try meanwhile()
    } catch {
      late.supply()
      thread.join()
      throw error
    }
    late.supply()
    thread.join()
    return try #require(result.withLock { $0 })
  }

  private func map(
    _ file: ControlFile, _ ioas: UInt32, _ late: LateMemory, at iova: UInt64
  ) -> Errno? {
    var command = iommu_ioas_map(
      size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: late.address,
      length: late.length, iova: iova)
    return file.call(.ioasMap, &command)
  }

  /// Checks that every mapped area of every IOAS is pinned and in every domain, or, without a
  /// domain, not pinned.
  private func requireFilledDomains(_ file: ControlFile) throws {
    let context = try file.context
    context.lock.withLock {
      for ioas in context.objects.all(IOAS.self) {
        let table = ioas.pageTable
        #expect(table.filling.isEmpty)
        table.forEachArea { area in
          #expect(area.isPinned == !table.domains.isEmpty)
          for domain in table.domains {
            #expect(domain.physicalAddress(of: area.firstIOVA) != nil)
            #expect(domain.physicalAddress(of: area.lastIOVA) != nil)
          }
        }
      }
    }
  }

  // MARK: One wait

  @Test("a mapping is not pinned when the last domain goes while its pages arrive")
  func domainGoesDuringMap() throws {
    let scene = try Scene(latePages: 3)
    let (mock, file, ioas, late) = (scene.mock, scene.mock.file, scene.home, scene.late)
    let result = try wait(for: late) {
      map(file, ioas, late, at: Self.start)
    } meanwhile: {
      #expect(mock.destroy(scene.device.device) == nil)
    }
    #expect(result == nil)
    try requireFilledDomains(file)
    #expect(file.memory.pinnedFrames == 0)
    #expect(file.unmap(ioas, 0, .max) == .success(late.length))
    file.close()
  }

  @Test("a mapping is in a domain that is added while its pages arrive")
  func domainComesDuringMap() throws {
    let scene = try Scene(latePages: 3)
    let (mock, file, ioas, late) = (scene.mock, scene.mock.file, scene.home, scene.late)
    var hwpt: UInt32 = 0
    let result = try wait(for: late) {
      map(file, ioas, late, at: Self.start)
    } meanwhile: {
      hwpt = try mock.allocate(scene.device.bound, on: ioas).get()
    }
    #expect(result == nil)
    try requireFilledDomains(file)
    #expect(file.memory.pinnedFrames == 3)
    #expect(mock.destroy(hwpt) == nil)
    #expect(file.unmap(ioas, 0, .max) == .success(late.length))
    #expect(file.memory.pinnedFrames == 0)
    file.close()
  }

  @Test("two domains are filled at the same time, and one of them is destroyed")
  func twoDomains() throws {
    let scene = try Scene(latePages: 2)
    let (mock, file, device, late) = (scene.mock, scene.mock.file, scene.device, scene.late)
    let ioas = try file.makeIOAS()
    #expect(map(file, ioas, late, at: Self.start) == nil)
    let second = Mutex<UInt32>(0)
    let other = Thread {
      let hwpt = try? mock.allocate(device.bound, on: ioas).get()
      second.withLock { $0 = hwpt ?? 0 }
    }
    let first = try wait(for: late) {
      mock.allocate(device.bound, on: ioas)
    } meanwhile: {
      other.start()
      #expect(late.awaitFault())
    }
    other.join()
    #expect(file.memory.pinnedFrames == 2)
    try requireFilledDomains(file)
    #expect(mock.destroy(try first.get()) == nil)
    try requireFilledDomains(file)
    #expect(mock.destroy(second.withLock { $0 }) == nil)
    try requireFilledDomains(file)
    #expect(file.memory.pinnedFrames == 0)
    file.close()
  }

  @Test("areas that come and go while a domain is filled are in it or not")
  func areasDuringFill() throws {
    let scene = try Scene(latePages: 2)
    let (mock, file, device, late) = (scene.mock, scene.mock.file, scene.device, scene.late)
    let ioas = try file.makeIOAS()
    let memory = TestMemory(pages: 2)
    let step: UInt64 = 0x10000
    for offset in [0, 2, 4, 6] as [UInt64] where offset != 4 {
      #expect(mock.map(ioas, memory, at: Self.start + offset * step) == nil)
    }
    #expect(map(file, ioas, late, at: Self.start + 4 * step) == nil)
    let hwpt = try wait(for: late) {
      mock.allocate(device.bound, on: ioas)
    } meanwhile: {
      // Before, directly before and behind the area that the call waits for.
      for offset in [1, 3, 5] as [UInt64] {
        #expect(mock.map(ioas, memory, at: Self.start + offset * step) == nil)
      }
      for offset in [0, 1, 6] as [UInt64] {
        #expect(file.unmap(ioas, Self.start + offset * step, 0x2000) == .success(0x2000))
      }
      #expect(mock.map(ioas, memory, at: Self.start) == nil)
      #expect(file.destroy(ioas) == .resourceBusy)
    }
    try requireFilledDomains(file)
    #expect(file.memory.pinnedFrames == 4)
    #expect(mock.destroy(try hwpt.get()) == nil)
    #expect(file.memory.pinnedFrames == 0)
    #expect(file.unmap(ioas, 0, .max) == .success(5 * 0x2000))
    file.close()
  }

  @Test("an area that is unmapped while a domain is filled does not make the fill fail")
  func areaGoesDuringFill() throws {
    let scene = try Scene(latePages: 2)
    let (mock, file, device, late) = (scene.mock, scene.mock.file, scene.device, scene.late)
    let ioas = try file.makeIOAS()
    #expect(map(file, ioas, late, at: Self.start) == nil)
    let hwpt = try wait(for: late) {
      mock.allocate(device.bound, on: ioas)
    } meanwhile: {
      #expect(file.unmap(ioas, Self.start, 0x2000) == .success(0x2000))
    }
    try requireFilledDomains(file)
    #expect(file.memory.pinnedFrames == 0)
    #expect(mock.destroy(try hwpt.get()) == nil)
    file.close()
  }

  // MARK: Many waits

  @Test(
    "whatever calls wait for pages at the same time, domains have all areas and nothing leaks",
    arguments: 1...6)
  func manyCalls(seed: UInt64) throws {
    let mock = try MockFile()
    let file = mock.file
    let spaces = [try file.makeIOAS(), try file.makeIOAS()]
    let device = try mock.makeDevice(spaces[0]).get()
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      var random = SeededGenerator(seed: seed &* 16 &+ UInt64(thread))
      for _ in 0..<40 {
        let ioas = spaces.randomElement(using: &random) ?? 0
        let iova = Self.start + UInt64.random(in: 0..<8, using: &random) * 0x4000
        switch Int.random(in: 0..<6, using: &random) {
        case 0, 1:
          guard let late = try? LateMemory(pages: Int.random(in: 1...4, using: &random)) else {
            continue
          }
          late.supply(after: useconds_t.random(in: 0..<2000, using: &random))
          _ = map(file, ioas, late, at: iova)
          // The mapping is unmapped before its memory is.
          late.supply()
          _ = file.unmap(ioas, iova, 0x4000)
          if Bool.random(using: &random) { _ = file.unmap(ioas, 0, .max) }
          for ioas in spaces { _ = file.unmap(ioas, Self.start, 0x20000) }
        case 2:
          _ = file.unmap(ioas, iova, 0x4000)
        case 3:
          var copy = iommu_ioas_copy(
            size: 40, flags: 7, dst_ioas_id: spaces[1], src_ioas_id: spaces[0], length: 0x1000,
            dst_iova: iova, src_iova: Self.start)
          _ = file.call(.ioasCopy, &copy)
        default:
          if let hwpt = try? mock.allocate(device.bound, on: ioas).get() {
            _ = mock.destroy(hwpt)
          }
        }
      }
    }
    try requireFilledDomains(file)
    for ioas in spaces { #expect(file.unmap(ioas, 0, .max).error == nil) }
    #expect(file.memory.pinnedFrames == 0)
    #expect(mock.destroy(device.device) == nil)
    for ioas in spaces { #expect(file.destroy(ioas) == nil) }
    file.close()
  }
}
