// SPDX-License-Identifier: Apache-2.0

import CUAPI
import Glibc
import Host
import SystemPackage
import TestSupport
import Testing
import UAPI

@testable import VFIO

@Suite("Many clients at once")
struct ConcurrencyTests {
  @Test("of several files that bind at the same time one succeeds")
  func bindRace() async throws {
    let fixture = try VFIOFixture()
    let devices = try (0..<8).map { _ in try fixture.open() }
    let winners = await withTaskGroup(of: Bool.self) { group in
      for device in devices {
        group.addTask { device.bind(fixture.iommufd) == nil }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(winners == 1)
    for device in devices { device.close() }
    #expect(try fixture.open().bind(fixture.iommufd) == nil)
  }

  @Test("concurrent interrupts, accesses, resets and closes leave the device in its initial state")
  func churn() async throws {
    let fixture = try VFIOFixture()
    let event = EventFile()
    for round in 0..<20 {
      let device = try fixture.bound(round % 4)
      let ioas = fixture.makeIOAS()
      await withTaskGroup(of: Void.self) { group in
        group.addTask {
          for _ in 0..<50 {
            _ = device.setIRQs(
              VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 2, [event.number])
            _ = device.setIRQs(
              VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 2, count: 0)
          }
        }
        group.addTask {
          for value in 0..<50 {
            try? device.setConfig(4, UInt16(value % 2 == 0 ? 6 : 0x402))
            try? device.write(0, 8, UInt32(3))
          }
        }
        group.addTask {
          for _ in 0..<50 {
            _ = device.attach(ioas)
            _ = device.detach()
          }
        }
        group.addTask { for _ in 0..<20 { _ = device.ioctl(.vfioDeviceReset) } }
      }
      device.close()
    }
    let device = try fixture.bound()
    #expect(try device.config(4, as: UInt16.self) == 2)
  }

  @Test("close releases every eventfd of the client")
  func descriptors() throws {
    let fixture = try VFIOFixture()
    let events = (0..<4).map { _ in EventFile() }
    let device = try fixture.bound()
    let eventTrigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER
    let eventUnmask = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK
    #expect(device.setIRQs(eventTrigger, 0, [events[0].number]) == nil)
    #expect(device.setIRQs(eventUnmask, 0, [events[1].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 3, [events[2].number]) == nil)
    #expect(device.setIRQs(eventTrigger, 4, [events[3].number]) == nil)
    #expect(events.map(\.descriptors) == [2, 2, 2, 2])
    device.close()
    #expect(events.map(\.descriptors) == [1, 1, 1, 1])
  }
}

extension EventFile {
  /// The number of this process's descriptors of the eventfd.
  var descriptors: Int {
    guard let own = Self.id(of: number) else { return 0 }
    return (0..<4096).reduce(0) { $0 + (Self.id(of: Int32($1)) == own ? 1 : 0) }
  }

  private static func id(of descriptor: Int32) -> Substring? {
    guard let text = try? ProcFile.read("/proc/self/fdinfo/\(descriptor)") else { return nil }
    return ProcFile.field("eventfd-id", of: text)
  }
}
