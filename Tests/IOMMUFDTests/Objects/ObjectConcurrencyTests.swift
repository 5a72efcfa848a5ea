// SPDX-License-Identifier: Apache-2.0

// Many threads on one open file. A debug build also checks that a thread holds the context's lock
// when it uses an object.

import CUAPI
import Dispatch
import IOMMU
import Synchronization
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import IOMMUFD

@Suite struct ConcurrencyTests {
  @Test("concurrent commands on one file leave only the objects that were not destroyed")
  func commandsOnOneFile() throws {
    let file = try ControlFile()
    let memory = TestMemory(pages: 4)
    let unexpected = Mutex<[String]>([])
    let shared = try file.makeIOAS()
    #expect(file.vfioIOAS(.set, shared) == .success(shared))
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      func expect(_ condition: Bool, _ what: String) {
        if !condition { unexpected.withLock { $0.append(what) } }
      }
      let base = UInt64(thread + 1) << 32
      for round in 0..<200 {
        guard let own = try? file.makeIOAS() else { return expect(false, "alloc") }
        expect(own != shared, "an id has one owner")
        for ioas in [shared, own] {
          var map = iommu_ioas_map(
            size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address,
            length: 0x4000, iova: base)
          expect(file.call(.ioasMap, &map) == nil, "map")
        }
        var copy = iommu_ioas_copy(
          size: 40, flags: 7, dst_ioas_id: shared, src_ioas_id: own, length: 0x1000,
          dst_iova: base + 0x10000, src_iova: base + 0x1000)
        expect(file.call(.ioasCopy, &copy) == nil, "copy")
        expect(file.destroy(own) == nil, "destroy")
        expect(file.unmap(shared, base, 0x20000) == .success(0x5000), "unmap")
        var ranges = iommu_ioas_iova_ranges()
        (ranges.size, ranges.ioas_id) = (32, shared)
        expect(file.call(.ioasIOVARanges, &ranges) == .messageTooLong, "ranges")
        if round % 16 == 0 { expect(file.hugePages(of: shared) == .success(1), "option") }
      }
    }
    #expect(unexpected.withLock { $0 }.isEmpty)
    #expect(file.unmap(shared, 0, .max) == .success(0))
    #expect(try file.makeIOAS() == 2, "every other object is gone")
    file.close()
  }

  @Test(
    "devices can be attached and detached while their IOAS is mapped and unmapped and the file is closed"
  )
  func devicesOfOneFile() throws {
    let driver = RecordingDriver()
    let file = try ControlFile()
    let context = try file.context
    let ioas = try file.makeIOAS()
    let memory = TestMemory(pages: 4)
    let failures = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      let device = PhysicalDevice(
        name: "device\(thread)",
        requesterID: RequesterID(bus: 0, device: UInt8(thread), function: 0), driver: driver,
        group: IOMMUGroup(id: thread))
      for _ in 0..<100 {
        if thread == 3 {
          var map = iommu_ioas_map(
            size: 40, flags: 7, ioas_id: ioas, __reserved: 0, user_va: memory.address,
            length: 0x4000, iova: 0x10_0000)
          if file.call(.ioasMap, &map) != nil
            || file.unmap(ioas, 0x10_0000, 0x4000) != .success(0x4000)
          {
            failures.add(1, ordering: .relaxed)
          }
          continue
        }
        do {
          let bound = try context.bind(device)
          var target = ObjectID(ioas)
          try bound.attach(to: &target, client: file.client)
          target = ObjectID(ioas)
          try bound.replace(with: &target, client: file.client)
          bound.detach()
          bound.unbind()
        } catch {
          failures.add(1, ordering: .relaxed)
        }
      }
    }
    #expect(failures.load(ordering: .relaxed) == 0)
    #expect(file.destroy(ioas) == nil)
    #expect(try file.makeIOAS() == 1)
    #expect(file.memory.pinnedFrames == 0)
    file.close()
  }

  @Test("a bind of a descriptor that is closed at the same time succeeds or is EBADF")
  func closeDuringBind() throws {
    let driver = RecordingDriver()
    let memory = try PhysicalMemory(.test)
    let device = PhysicalDevice(
      name: "device", requesterID: RequesterID(bus: 0, device: 0, function: 0), driver: driver,
      group: IOMMUGroup(id: 0))
    for _ in 0..<100 {
      let file = try ControlFile(memory: memory)
      let outcome = Mutex<Errno?>(nil)
      DispatchQueue.concurrentPerform(iterations: 2) { thread in
        if thread == 0 { return file.close() }
        do throws(Errno) {
          let context = try Context.of(descriptor: file.number, client: file.client)
          let bound = try context.bind(device)
          context.release()
          bound.unbind()
        } catch {
          outcome.withLock { $0 = error }
        }
      }
      let error = outcome.withLock { $0 }
      #expect(error == nil || error == .badFileDescriptor || error == .badFileDescriptorState)
    }
  }
}
