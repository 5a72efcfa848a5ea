// SPDX-License-Identifier: Apache-2.0

// vIOMMUs, vDEVICEs, event queues, regions and hardware queues.

import CUAPI
import Glibc
import Host
import Synchronization
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMU
@testable import IOMMUFD

@Suite struct VIOMMUTests {
  private let mock: MockFile
  private let ioas: UInt32
  private let device: (device: UInt32, bound: UInt32, hwpt: UInt32)
  private let parent: UInt32

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
    device = try mock.makeDevice(ioas).get()
    parent = try mock.allocate(
      device.bound, on: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue
    ).get()
  }

  // MARK: Devices

  @Test("a device has one vDEVICE, whose ID becomes a tombstone when the device is destroyed first")
  func virtualDevices() throws {
    defer { mock.close() }
    let viommu = try mock.makeVIOMMU(for: device.bound, on: parent).get()
    let other = try mock.makeDevice(ioas).get()
    let first = try mock.makeVirtualDevice(device.bound, on: viommu, 9).get()
    #expect(mock.makeVirtualDevice(device.bound, on: viommu, 8).error == .fileExists)
    #expect(mock.makeVirtualDevice(other.bound, on: viommu, 9).error == .fileExists)
    #expect(mock.makeVirtualDevice(other.bound, on: parent, 8).error == .noSuchFileOrDirectory)
    let second = try mock.makeVirtualDevice(other.bound, on: viommu, 8).get()
    #expect(second == first + 1)
    #expect(mock.destroy(viommu) == .resourceBusy)
    // The device destroys its vDEVICE, whose ID becomes a tombstone that no later object gets.
    #expect(mock.destroy(other.device) == nil)
    #expect(mock.destroy(second) == .noSuchFileOrDirectory)
    #expect(mock.destroy(first) == nil)
    #expect(mock.destroy(viommu) == nil)
    var ids: [UInt32] = []
    for _ in 0..<8 { ids.append(try mock.file.makeIOAS()) }
    #expect(!ids.contains(second))
    #expect(ids.contains(first))
  }

  // MARK: Events

  @Test(
    "a vEVENTQ returns whole events with sequence numbers, and a header without an event has the number of the last lost event"
  )
  func events() throws {
    defer { mock.close() }
    let viommu = try mock.makeVIOMMU(for: device.bound, on: parent).get()
    let nested = try mock.nest(device.bound, on: viommu).get()
    #expect(mock.replace(device.device, with: nested) == .noSuchFileOrDirectory)
    _ = try mock.makeVirtualDevice(device.bound, on: viommu, 0x99).get()
    #expect(mock.reportEvent(device.bound) == .noSuchFileOrDirectory, "not attached")
    #expect(mock.replace(device.device, with: nested) == nil)
    #expect(mock.reportEvent(device.bound) == .notSupported, "no queue")
    #expect(mock.makeEventQueue(on: viommu, depth: 0).error == .invalidArgument)
    #expect(mock.makeEventQueue(on: viommu, depth: 1, type: 0).error == .notSupported)
    let queue = try mock.makeEventQueue(on: viommu, depth: 2).get()
    #expect(mock.makeEventQueue(on: viommu, depth: 2).error == .fileExists)
    defer { mock.file.client.close(queue.number) }

    #expect(mock.readiness(queue.number) == [])
    #expect(mock.read(queue.number, 7) == .failure(.invalidArgument))
    #expect(mock.read(queue.number, 8) == .success([]))
    for _ in 0..<4 { #expect(mock.reportEvent(device.bound) == nil) }
    #expect(mock.readiness(queue.number) == .readable)
    #expect(mock.read(queue.number, 11) == .failure(.invalidArgument), "an event is longer")
    #expect(mock.read(queue.number, 12) == .success([0, 0, 0x99]))
    // Two events were lost. The header has the number of the last lost event.
    #expect(mock.read(queue.number, 100) == .success([0, 1, 0x99, 1, 3]))
    for _ in 0..<3 { #expect(mock.reportEvent(device.bound) == nil) }
    #expect(mock.read(queue.number, 12) == .success([0, 4, 0x99]))
    #expect(mock.reportEvent(device.bound) == nil)
    // The gap in the sequence numbers replaces the header.
    #expect(mock.read(queue.number, 100) == .success([0, 5, 0x99, 0, 7, 0x99]))
    #expect(mock.write(queue.number, [0, 0]) == .failure(.invalidArgument))
    #expect(mock.destroy(queue.id) == .resourceBusy)
  }

  @Test("sequence numbers wrap to 0 after 0x7fffffff")
  func numbersWrap() {
    var queue = VEventQueueContents(depth: 1, firstSequence: 0x7fff_ffff)
    queue.append([1])
    queue.append([2])
    let numbers = [queue.dequeue()?.sequence, queue.dequeue()?.sequence]
    #expect(numbers == [0x7fff_ffff, 0])
  }

  @Test("a header that cannot be stored is returned again unless a newer event follows")
  func requeuedHeader() throws {
    var queue = VEventQueueContents(depth: 1)
    queue.append([1])
    queue.append([2])
    let (first, second) = (queue.dequeue(), queue.dequeue())
    let (event, header) = (try #require(first), try #require(second))
    #expect(header.data == nil)
    queue.requeue(header)
    #expect(!queue.isEmpty)
    let third = queue.dequeue()
    let again = try #require(third)
    queue.confirm(event)
    queue.append([3])
    queue.requeue(again)
    #expect(queue.dequeue()?.data == [3])
    #expect(queue.isEmpty)
  }

  // MARK: Mapped regions

  @Test("a region is mapped at the lowest free offset")
  func mapping() throws {
    defer { mock.close() }
    let data = TestMemory()
    data.store(iommu_viommu_selftest(in_data: 0x41))
    let first = try mock.makeVIOMMU(for: device.bound, on: parent, data: data).get()
    let answer = data.load(iommu_viommu_selftest.self)
    #expect(answer.out_data == 0x41)
    #expect(answer.out_mmap_offset == 4096)
    #expect(answer.out_mmap_length == 8192)
    data.store(iommu_viommu_selftest(in_data: 0x42))
    let second = try mock.makeVIOMMU(for: device.bound, on: parent, data: data).get()
    #expect(data.load(iommu_viommu_selftest.self).out_mmap_offset == 4096 + 8192)
    #expect(mock.makeVIOMMU(for: device.bound, on: parent, data: data, length: 7).error != nil)

    let file = try #require(mock.file.client.file(mock.file.number))
    for (offset, length) in [(0, 8192), (4096, 4096), (8192, 4096), (4096, 12288)]
      as [(UInt64, UInt64)]
    {
      #expect(throws: Errno.noSuchAddressOrDevice) {
        try file.region(for: MappingRequest(offset: offset, length: length))
      }
    }
    var request = MappingRequest(offset: 4096, length: 8192, isExecutable: true)
    #expect(throws: Errno.notPermitted) { try file.region(for: request) }
    request = MappingRequest(offset: 4096, length: 8192, isShared: false, isExecutable: true)
    #expect(throws: Errno.invalidArgument) { try file.region(for: request) }
    let region = try file.region(for: MappingRequest(offset: 4096, length: 8192))
    #expect(region.contents == [0x41, 0, 0, 0])
    #expect(mock.destroy(first) == nil)
    #expect(throws: Errno.noSuchAddressOrDevice) {
      try region.prepareMapping(in: FileIdentity(device: 1, inode: 1)) { nil }
    }
    // The lowest free offset is used.
    data.store(iommu_viommu_selftest(in_data: 0x43))
    let third = try mock.makeVIOMMU(for: device.bound, on: parent, data: data).get()
    #expect(data.load(iommu_viommu_selftest.self).out_mmap_offset == 4096)
    #expect(third == first)
    #expect(mock.destroy(second) == nil)
  }

  @Test(
    "a vIOMMU stays while a process maps a part of its region, and mapped registers cannot be pinned"
  )
  func aMappedRegion() throws {
    defer { mock.close() }
    let data = TestMemory()
    data.store(iommu_viommu_selftest(in_data: 0x41))
    let viommu = try mock.makeVIOMMU(for: device.bound, on: parent, data: data).get()
    let file = try #require(mock.file.client.file(mock.file.number))
    let region = try file.region(for: MappingRequest(offset: 4096, length: 8192))
    let standIn = OwnedDescriptor(
      owning: try MemoryFile.create(name: "stand-in", length: region.offset + region.length))
    let identity = try FileStatus(of: standIn).identity
    #expect(throws: Errno.noMemory) {
      try region.prepareMapping(in: identity) { () throws(Errno) -> SharedRegisters? in
        throw .noMemory
      }
    }
    var filled = 0
    func place() throws {
      try region.prepareMapping(in: identity) {
        filled += 1
        return nil
      }
    }
    for _ in 0..<2 { try place() }
    #expect(filled == 1)

    let window = TestMemory(pages: 2)
    mmap(
      window.base, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, standIn.rawValue, 4096)
    #expect(mock.destroy(viommu) == .resourceBusy)
    #expect(mock.map(ioas, window, at: UInt64(MOCK_APERTURE_START)) == .badAddress)
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    mmap(window.base, 4096, PROT_READ, anonymous, -1, 0)
    #expect(mock.destroy(viommu) == .resourceBusy)
    // The region can be mapped again after a destroy that was refused.
    try place()
    mmap(window.base + 4096, 4096, PROT_READ, anonymous, -1, 0)
    #expect(mock.destroy(viommu) == nil)
    #expect(filled == 1)
  }

  @Test(
    "a register of a region is accessed by its offset and is shared with every mapping of the region"
  )
  func registersOfARegion() throws {
    let regions = MappableRegions()
    let shared = Mutex<[SharedRegisters]>([])
    _ = try regions.add([1], length: 4096)
    let region = try regions.add([], length: 8192) { pages throws(Errno) in
      shared.withLock { $0.append(pages) }
    }
    #expect(region.isShared && region.offset == 8192)
    for position in [0, 4096, 8194, 16384] as [UInt64] {
      #expect(throws: Errno.invalidArgument) { try regions.register(at: position) }
    }
    let (pages, place) = try regions.register(at: 16380)
    pages.store(0x1234, at: place)
    #expect(place == 8188)
    #expect(try regions.register(at: 16380).pages.load(place) == 0x1234)
    let standIn = OwnedDescriptor(
      owning: try MemoryFile.create(name: "stand-in", length: region.end))
    try region.prepareMapping(in: try FileStatus(of: standIn).identity) { () throws(Errno) in
      try SharedRegisters(of: standIn, at: region.offset, length: region.length)
    }
    #expect(shared.withLock { $0.count } == 2)
    // The server's own mapping does not keep the region in use.
    #expect(region.close())
    #expect(throws: Errno.noSuchAddressOrDevice) {
      try region.prepareMapping(in: FileIdentity(device: 1, inode: 1)) { nil }
    }
    regions.permitPinning()
  }

  // MARK: Hardware queues

  @Test("a hardware queue has an access with its own ID and depends on the queue before it")
  func hardwareQueues() throws {
    defer { mock.close() }
    let viommu = try mock.makeVIOMMU(for: device.bound, on: parent).get()
    let base = UInt64(MOCK_APERTURE_START)
    #expect(
      mock.makeHardwareQueue(on: viommu, index: 0, at: base, length: 0).error == .invalidArgument)
    #expect(mock.makeHardwareQueue(on: viommu, index: 0, at: .max, length: 2).error == .overflow)
    #expect(
      mock.makeHardwareQueue(on: viommu, index: 0, at: base, length: 16).error
        == .noSuchFileOrDirectory)
    let pages = TestMemory(pages: 2)
    #expect(mock.map(ioas, pages, at: base) == nil)
    #expect(mock.makeHardwareQueue(on: viommu, index: 1, at: base, length: 16).error == .ioError)
    #expect(
      mock.makeHardwareQueue(on: viommu, index: 2, at: base, length: 16).error == .invalidArgument)
    let first = try mock.makeHardwareQueue(on: viommu, index: 0, at: base + 64, length: 16).get()
    #expect(mock.makeHardwareQueue(on: viommu, index: 0, at: base, length: 16).error == .fileExists)
    // The next ID is that of its access, which a client cannot destroy.
    #expect(mock.destroy(first + 1) == .resourceBusy)
    let second = try mock.makeHardwareQueue(on: viommu, index: 1, at: base, length: 4096).get()
    #expect(second == first + 2)
    #expect(mock.unmap(ioas, at: base, length: 8192) == .resourceBusy)
    #expect(mock.destroy(first) == .resourceBusy, "the second depends on it")
    #expect(mock.destroy(viommu) == .resourceBusy)
    #expect(mock.destroy(second) == nil)
    #expect(mock.unmap(ioas, at: base, length: 8192) == .resourceBusy)
    #expect(mock.destroy(first) == nil)
    #expect(mock.unmap(ioas, at: base, length: 8192) == nil)
    #expect(mock.destroy(viommu) == nil)
  }
}

extension iommu_viommu_selftest {
  fileprivate init(in_data: UInt32) {
    self.init()
    self.in_data = in_data
  }
}

extension MappingRequest {
  fileprivate init(offset: UInt64, length: UInt64, isExecutable: Bool = false) {
    self.init(offset: offset, length: length, isShared: true, isExecutable: isExecutable)
  }
}
