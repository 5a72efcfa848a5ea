// SPDX-License-Identifier: Apache-2.0

import Glibc
import Host
import Synchronization
import TestSupport
import Testing

@testable import IOMMU

@Suite struct InFlightRequestTests {
  private let inFlight = InFlightRequest()

  /// Runs `meanwhile` and then starts an invalidation while a request is in progress.
  /// - Parameter use: Records the domain or the device TLB that the request uses.
  /// - Returns: Whether the invalidation waited for the end of the request.
  private func isAwaited(
    _ use: @escaping @Sendable (InFlightRequest) -> Void, meanwhile: () -> Void,
    by invalidate: @escaping @Sendable () -> Void
  ) -> Bool {
    let (hasBegun, mayEnd, hasPassed) = (ThreadSemaphore(), ThreadSemaphore(), ThreadSemaphore())
    let isEarly = Atomic(false)
    let isUnderWay = Atomic(true)
    let inFlight = inFlight
    startThread(named: "request") {
      inFlight.lock.withLock { _ in
        inFlight.begin()
        use(inFlight)
        hasBegun.signal()
        mayEnd.wait()
        isUnderWay.store(false, ordering: .releasing)
        inFlight.end()
      }
    }
    hasBegun.wait()
    meanwhile()
    startThread(named: "invalidation") {
      invalidate()
      isEarly.store(isUnderWay.load(ordering: .acquiring), ordering: .releasing)
      hasPassed.signal()
    }
    usleep(20_000)
    mayEnd.signal()
    hasPassed.wait()
    return !isEarly.load(ordering: .acquiring)
  }

  @Test("an invalidation waits only for requests that use its domain")
  func domainInUse() {
    let inFlight = inFlight
    #expect(
      isAwaited {
        $0.use(InFlightKey(rawValue: 1))
      } meanwhile: {
        // The request is in progress. An invalidation of another domain does not wait for it.
        inFlight.wait(for: InFlightKey(rawValue: 2))
      } by: {
        inFlight.wait(for: InFlightKey(rawValue: 1))
      })
    inFlight.wait(for: nil)
  }

  @Test("a device TLB invalidation waits for the requests that use this device TLB")
  func deviceTLBInUse() {
    let ports = PortList()
    ports.add(inFlight, DeviceTLB(requester: .test(1)))
    #expect(
      isAwaited {
        $0.useDeviceTLB()
      } meanwhile: {
        ports.drain(DomainID(rawValue: 1))
        ports.invalidateDeviceTLBs(.all, pasid: nil) { $0 == .test(2) }
      } by: {
        ports.invalidateDeviceTLBs(.all, pasid: nil) { $0 == .test(1) }
      })
  }
}
