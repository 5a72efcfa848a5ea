// SPDX-License-Identifier: Apache-2.0

// Mock devices and their attachments. The expected values were observed on Linux 7.3.4.

import CUAPI
import IOMMU
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

private let hasPASIDs = UInt32(MOCK_FLAGS_DEVICE_PASID)
private let noDirty = UInt32(MOCK_FLAGS_DEVICE_NO_DIRTY)
private let pasidFlag = IOMMU_HWPT_ALLOC_PASID.rawValue
private let nestParent = IOMMU_HWPT_ALLOC_NEST_PARENT.rawValue
private let dirtyFlag = IOMMU_HWPT_ALLOC_DIRTY_TRACKING.rawValue

@Suite struct MockDeviceTests {
  private let mock: MockFile
  private let ioas: UInt32

  init() throws {
    mock = try MockFile()
    ioas = try mock.file.makeIOAS()
  }

  private func attach(
    _ device: UInt32, _ pasid: UInt32, _ target: UInt32, by operation: Int
  ) -> Result<UInt32, Errno> {
    mock.test(operation, id: device) {
      $0.pasid_attach.pasid = pasid
      $0.pasid_attach.pt_id = target
    }.map { $0.pasid_attach.pt_id }
  }

  private func attach(_ device: UInt32, _ pasid: UInt32, _ target: UInt32) -> Result<UInt32, Errno>
  {
    attach(device, pasid, target, by: IOMMU_TEST_OP_PASID_ATTACH)
  }

  private func replace(
    _ device: UInt32, _ pasid: UInt32, _ target: UInt32
  ) -> Result<UInt32, Errno> {
    attach(device, pasid, target, by: IOMMU_TEST_OP_PASID_REPLACE)
  }

  private func isAttached(_ device: UInt32, _ pasid: UInt32, _ hwpt: UInt32) -> Bool {
    mock.test(IOMMU_TEST_OP_PASID_CHECK_HWPT, id: device) {
      $0.pasid_check.pasid = pasid
      $0.pasid_check.hwpt_id = hwpt
    }.error == nil
  }

  @Test("IOMMU_TEST_CMD exists only with the selftest interface")
  func withoutSelftest() throws {
    let plain = try ControlFile()
    defer { plain.close() }
    let memory = TestMemory()
    memory.store(UInt32(72))
    #expect(plain.call(.test, memory.address) == .failure(.inappropriateIOCTLForDevice))
    memory.store(UInt32(67))
    defer { mock.close() }
    #expect(mock.file.call(.test, memory.address) == .failure(.invalidArgument))
    #expect(mock.test(99).error == .notSupported)
  }

  @Test("a mock device has its IDs in the order of the kernel and shares the automatic HWPT")
  func idsAreTakenInOrder() throws {
    defer { mock.close() }
    let first = try mock.makeDevice(ioas).get()
    #expect(first == (2, 3, 4))
    // The second device shares the automatic HWPT.
    let second = try mock.makeDevice(ioas).get()
    #expect(second == (5, 6, 4))
    #expect(mock.destroy(3) == .resourceBusy)
    #expect(mock.destroy(4) == .resourceBusy)
    #expect(mock.destroy(2) == nil)
    #expect(mock.destroy(5) == nil)
    #expect(mock.destroy(4) == .noSuchFileOrDirectory)
    #expect(mock.destroy(ioas) == nil)
  }

  @Test(
    "a failed MOCK_DOMAIN releases every ID, and a replacement whose ID cannot be returned stays")
  func failuresReleaseIDs() throws {
    defer { mock.close() }
    #expect(mock.makeDevice(ioas, flags: 2).error == .invalidArgument)
    #expect(mock.makeDevice(9).error == .noSuchFileOrDirectory)
    #expect(mock.makeDevice(ioas, readOnly: true).error == .badAddress)
    #expect(try mock.makeDevice(ioas).get() == (2, 3, 4))
    // A replacement whose result cannot be written stays.
    let other = try mock.allocate(3, on: ioas).get()
    let answer = mock.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: 2, readOnly: true) {
      $0.mock_domain_replace.pt_id = other
    }
    #expect(answer.error == .badAddress)
    #expect(isAttached(2, 0, other))
    #expect(mock.destroy(4) == .noSuchFileOrDirectory)
  }

  @Test(
    "an attach to a PASID requires HWPTs with PASIDs, and the device's PASIDs are detached with it")
  func pasids() throws {
    defer { mock.close() }
    let plain = try mock.makeDevice(ioas).get()
    let device = try mock.makeDevice(ioas, flags: hasPASIDs).get().device
    let capable = try mock.allocate(plain.bound, on: ioas, flags: pasidFlag).get()
    let other = try mock.allocate(plain.bound, on: ioas, flags: pasidFlag).get()
    // The HWPT of the device itself must allow PASIDs too.
    #expect(attach(device, 5, capable).error == .invalidArgument)
    #expect(replace(device, 0, capable).error == nil)
    #expect(attach(device, 5, ioas).error == .invalidArgument)
    #expect(try attach(device, 5, capable).get() == capable)
    #expect(attach(device, 5, capable).error == .resourceBusy)
    #expect(attach(device, 5, ioas).error == .resourceBusy)
    #expect(replace(device, 0, plain.hwpt).error == .invalidArgument)
    #expect(replace(device, 6, capable).error == .invalidArgument)
    #expect(try replace(device, 5, other).get() == other)
    #expect(isAttached(device, 5, other) && !isAttached(device, 5, capable))
    #expect(attach(device, 1 << 20, capable).error == .invalidArgument)
    #expect(attach(device, 1 << 20 - 1, capable).error == nil)
    #expect(mock.destroy(other) == .resourceBusy)
    mock.test(IOMMU_TEST_OP_PASID_DETACH, id: device) { $0.pasid_detach.pasid = 5 }
    #expect(isAttached(device, 5, 0))
    #expect(mock.destroy(other) == nil)
    // The destruction of a device detaches all of its PASIDs.
    #expect(mock.destroy(device) == nil)
    #expect(mock.destroy(capable) == nil)
  }

  @Test("a mock device without PASIDs refuses them")
  func aDeviceWithoutPASIDs() throws {
    defer { mock.close() }
    let plain = try mock.makeDevice(ioas).get()
    let capable = try mock.allocate(plain.bound, on: ioas, flags: pasidFlag).get()
    #expect(replace(plain.device, 0, capable).error == nil)
    #expect(attach(plain.device, 1, capable).error == .invalidArgument)
  }

  @Test("every second attach or replacement of IOMMU_TEST_PASID_RESERVED fails without a change")
  func reservedPASID() throws {
    defer { mock.close() }
    let pasid = UInt32(IOMMU_TEST_PASID_RESERVED)
    let device = try mock.makeDevice(ioas, flags: hasPASIDs).get()
    let first = try mock.allocate(device.bound, on: ioas, flags: pasidFlag).get()
    let second = try mock.allocate(device.bound, on: ioas, flags: pasidFlag).get()
    #expect(replace(device.device, 0, first).error == nil)
    #expect(attach(device.device, pasid, first).error == nil)
    #expect(replace(device.device, pasid, second).error == .noMemory)
    #expect(isAttached(device.device, pasid, first))
    #expect(replace(device.device, pasid, second).error == nil)
    mock.test(IOMMU_TEST_OP_PASID_DETACH, id: device.device) { $0.pasid_detach.pasid = pasid }
    #expect(attach(device.device, pasid, first).error == nil)
    #expect(mock.destroy(second) == nil)
  }

  @Test("a mock device without dirty tracking refuses HWPTs with dirty tracking")
  func devicesThatCannotTrack() throws {
    defer { mock.close() }
    let device = try mock.makeDevice(ioas).get()
    let limited = try mock.makeDevice(ioas, flags: noDirty).get()
    #expect(mock.allocate(limited.bound, on: ioas, flags: dirtyFlag).error == .notSupported)
    let tracking = try mock.allocate(device.bound, on: ioas, flags: dirtyFlag).get()
    #expect(replace(limited.device, 0, tracking).error == .invalidArgument)
    #expect(isAttached(limited.device, 0, limited.hwpt))
  }

  @Test("the hardware information of a mock device depends on type and length")
  func hardwareInformation() throws {
    defer { mock.close() }
    let device = try mock.makeDevice(ioas, flags: hasPASIDs).get().bound
    let memory = TestMemory(pages: 3)
    memory.bytes.initializeMemory(as: UInt8.self, repeating: 0xff)
    // The words of the command: size, flags, dev_id, data_len, data_uptr (2), type, PASID bits,
    // caps (2).
    func call(length: UInt32, at address: UInt64, flags: UInt32 = 0, type: UInt32 = 0)
      -> (Errno?, [UInt32])
    {
      let command = TestMemory()
      let words: [UInt32] = [
        40, flags, device, length, UInt32(truncatingIfNeeded: address), UInt32(address >> 32),
        type, 0, 0, 0,
      ]
      for (index, word) in words.enumerated() { command.store(word, at: index * 4) }
      let result = mock.file.call(.getHardwareInfo, command.address)
      return (result.error, (0..<10).map { command.load(UInt32.self, at: $0 * 4) })
    }
    let (error, answer) = call(length: 9000, at: memory.address)
    #expect(error == nil)
    #expect(answer[3] == 8 && answer[6] == UInt32(IOMMU_HW_INFO_TYPE_SELFTEST))
    #expect(answer[7] == 20 && answer[8] == 9 && answer[9] == 0)
    #expect(memory.load(UInt32.self, at: 4) == UInt32(IOMMU_HW_INFO_SELFTEST_REGVAL))
    #expect(memory.bytes[8..<9000].allSatisfy { $0 == 0 })
    #expect(memory.bytes[9000] == 0xff)
    #expect(call(length: 5000, at: memory.end - 4999).0 == .badAddress)
    #expect(call(length: 0, at: 0).0 == nil)
    #expect(call(length: 0, at: 0, flags: 2).0 == .notSupported)
    // The type is ignored without its flag.
    #expect(call(length: 0, at: 0, type: 5).0 == nil)
    #expect(call(length: 0, at: 0, flags: 1, type: 5).0 == .notSupported)
  }
}

@Suite struct MockNestedTests {
  private let mock: MockFile
  private let device: (device: UInt32, bound: UInt32, hwpt: UInt32)
  private let parent: UInt32

  init() throws {
    mock = try MockFile()
    let ioas = try mock.file.makeIOAS()
    device = try mock.makeDevice(ioas).get()
    parent = try mock.allocate(device.bound, on: ioas, flags: nestParent).get()
  }

  private func cacheEntries(_ hwpt: UInt32, hold value: UInt32) -> [Bool] {
    (0..<5).map { entry in
      mock.test(IOMMU_TEST_OP_MD_CHECK_IOTLB, id: hwpt) {
        $0.check_iotlb.id = UInt32(entry)
        $0.check_iotlb.iotlb = value
      }.error == nil
    }
  }

  private func invalidate(
    _ hwpt: UInt32, _ entries: [(flags: UInt32, id: UInt32)],
    type: UInt32 = UInt32(IOMMU_HWPT_INVALIDATE_DATA_SELFTEST), length: UInt32 = 8
  ) -> (Errno?, UInt32) {
    let memory = TestMemory()
    for (index, entry) in entries.enumerated() {
      memory.store(entry.flags, at: index * 8)
      memory.store(entry.id, at: index * 8 + 4)
    }
    var command = iommu_hwpt_invalidate()
    command.size = UInt32(MemoryLayout<iommu_hwpt_invalidate>.size)
    command.hwpt_id = hwpt
    command.data_uptr = memory.address
    command.data_type = type
    command.entry_len = length
    command.entry_num = UInt32(entries.count)
    let error = mock.file.call(.hwptInvalidate, &command)
    return (error, command.entry_num)
  }

  @Test("only a nesting parent can be the parent of a nested HWPT, and it is busy meanwhile")
  func whatCanBeAParent() throws {
    defer { mock.close() }
    #expect(mock.nest(device.bound, on: device.hwpt).error == .invalidArgument)
    #expect(mock.nest(device.bound, on: 77).error == .invalidArgument)
    #expect(mock.nest(77, on: parent).error == .noSuchFileOrDirectory)
    let nested = try mock.nest(device.bound, on: parent).get()
    #expect(mock.nest(device.bound, on: nested).error == .invalidArgument)
    #expect(mock.destroy(parent) == .resourceBusy)
    #expect(mock.destroy(nested) == nil)
    #expect(mock.destroy(parent) == nil)
  }

  @Test("type, length and value of the driver's data are checked before the fault queue")
  func dataOfTheDriver() throws {
    defer { mock.close() }
    let type = UInt32(IOMMU_HWPT_DATA_SELFTEST)
    let next = try mock.nest(device.bound, on: parent).get()
    mock.destroy(next)
    func nest(type: UInt32 = type, length: UInt32) -> Errno? {
      mock.allocate(device.bound, on: parent, type: type, data: [1, 0, 0], length: length).error
    }
    #expect(nest(type: 0, length: 0) == .notSupported)
    #expect(nest(type: 0, length: 4) == .invalidArgument)
    #expect(nest(length: 0) == .invalidArgument)
    #expect(nest(type: 1, length: 4) == .notSupported)
    #expect(nest(length: 3) == .invalidArgument)
    #expect(nest(length: 9) == .invalidArgument)
    let flags = [0x10, nestParent, dirtyFlag]
    for flag in flags {
      let answer = mock.allocate(device.bound, on: parent, flags: flag, type: type, data: [1])
      #expect(answer.error == .notSupported)
    }
    // The fault queue is looked up last, and the failure releases the ID.
    let fault = mock.allocate(device.bound, on: parent, flags: 4, type: type, data: [1], fault: 5)
    #expect(fault.error == .noSuchFileOrDirectory)
    #expect(try mock.nest(device.bound, on: parent).get() == next)
  }

  @Test("an invalidation returns the number of entries that took effect")
  func handledEntries() throws {
    defer { mock.close() }
    let nested = try mock.nest(device.bound, on: parent, 0xabc).get()
    #expect(cacheEntries(nested, hold: 0xabc) == [true, true, true, true, false])
    #expect(invalidate(nested, [(0, 1), (0, 4), (0, 2)]) == (.invalidArgument, 1))
    #expect(cacheEntries(nested, hold: 0) == [false, true, false, false, false])
    #expect(invalidate(nested, [(0, 0), (2, 2)]) == (.notSupported, 1))
    #expect(invalidate(nested, [(0, 2)], length: 9) == (.invalidArgument, 0))
    #expect(invalidate(nested, [(0, 2)], type: 1) == (.invalidArgument, 0))
    #expect(invalidate(nested, [], type: 1) == (.invalidArgument, 0))
    #expect(invalidate(nested, []) == (nil, 0))
    #expect(cacheEntries(nested, hold: 0xabc) == [false, false, true, true, false])
    #expect(invalidate(nested, [(1, 0)]) == (nil, 1))
    #expect(cacheEntries(nested, hold: 0) == [true, true, true, true, false])
    #expect(invalidate(parent, [(0, 0)]) == (.invalidArgument, 0))
    #expect(invalidate(99, [(0, 0)]) == (.noSuchFileOrDirectory, 0))
  }

  @Test("the entries before an entry that cannot be read take effect")
  func entriesThatCannotBeRead() throws {
    defer { mock.close() }
    let nested = try mock.nest(device.bound, on: parent, 9).get()
    let memory = TestMemory()
    for entry in 0..<2 { memory.store(UInt64(entry) << 32, at: 4080 + entry * 8) }
    var command = iommu_hwpt_invalidate()
    command.size = UInt32(MemoryLayout<iommu_hwpt_invalidate>.size)
    command.hwpt_id = nested
    command.data_uptr = memory.end - 16
    command.data_type = UInt32(IOMMU_HWPT_INVALIDATE_DATA_SELFTEST)
    (command.entry_len, command.entry_num) = (8, 3)
    #expect(mock.file.call(.hwptInvalidate, &command) == .badAddress)
    #expect(command.entry_num == 2)
    #expect(cacheEntries(nested, hold: 0) == [true, true, false, false, false])
    // More entries than one read contains.
    let many = TestMemory(pages: 40)
    for entry in 0..<20_000 { many.store(UInt64(entry % 3) << 32, at: entry * 8) }
    many.store(UInt64(4) << 32, at: 19_000 * 8)
    command.data_uptr = many.address
    command.entry_num = 20_000
    #expect(mock.file.call(.hwptInvalidate, &command) == .invalidArgument)
    #expect(command.entry_num == 19_000)
  }

  @Test("a device can be attached to a nested HWPT, and its automatic HWPT is then destroyed")
  func attaching() throws {
    defer { mock.close() }
    let nested = try mock.nest(device.bound, on: parent).get()
    let answer = mock.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id: device.device) {
      $0.mock_domain_replace.pt_id = nested
    }
    #expect(answer.error == nil)
    #expect(mock.destroy(nested) == .resourceBusy)
    // The automatic HWPT was destroyed with its last device.
    #expect(mock.destroy(device.hwpt) == .noSuchFileOrDirectory)
    #expect(mock.destroy(device.device) == nil)
    #expect(mock.destroy(nested) == nil)
  }
}
